package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// policiesRoute is where the plugin tells its lines.
const policiesRoute = "/api/permission/policies"

const (
	askTimeout = 30 * time.Second
	// mostAnswer is how large an answer of the plugin may be.
	mostAnswer = 64 << 20
)

// ask reads what a running plugin has stored.
func (s Sources) ask(ctx context.Context, in *Installation) ([]Finding, error) {
	in.Stored = true
	base, err := url.Parse(strings.TrimRight(s.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("the URL of Backstage is no http or https URL")
	}
	var refused []Finding
	for _, route := range []struct {
		name string
		read func(v written.Value) []Finding
	}{
		{policiesRoute, in.storedLine},
		{"/api/permission/roles", in.storedRole},
		{"/api/permission/roles/conditions", in.storedPolicy},
	} {
		answer, err := s.get(ctx, base.JoinPath(route.name))
		if err != nil {
			return nil, err
		}
		documents, wrong := documentsOf(route.name, answer)
		refused = append(refused, wrong...)
		if len(wrong) > 0 {
			continue
		}
		var all written.List
		if len(documents) == 1 {
			all, _ = documents[0].Of.(written.List)
		}
		if len(documents) != 1 || all == nil {
			refused = append(refused, refusal(written.Place{File: route.name}, "the answer is no list"))
			continue
		}
		for i, one := range all {
			refused = append(refused, route.read(renumbered(one, i+1))...)
		}
	}
	return refused, nil
}

// renumbered is a value that stands at the nth element of an answer, all of it.
func renumbered(v written.Value, n int) written.Value {
	v.At.Line = n
	switch of := v.Of.(type) {
	case written.List:
		for i := range of {
			of[i] = renumbered(of[i], n)
		}
	case *written.Object:
		for name, member := range of.Members {
			of.Members[name] = renumbered(member, n)
		}
	}
	return v
}

func (in *Installation) storedLine(v written.Value) []Finding {
	l := Line{At: v.At, Subject: v.Text("entityReference"), Object: v.Text("permission"), Action: v.Text("policy"),
		Effect: v.Text("effect")}
	if l.Subject == "" || l.Object == "" || l.Action == "" || l.Effect == "" {
		return []Finding{refusal(v.At, "want entityReference, permission, policy and effect")}
	}
	in.Lines = append(in.Lines, l)
	return nil
}

func (in *Installation) storedRole(v written.Value) []Finding {
	members, _ := v.Member("memberReferences")
	all, ok := members.Of.(written.List)
	if v.Text("name") == "" || !ok {
		return []Finding{refusal(v.At, "want name and memberReferences")}
	}
	metadata, _ := v.Member("metadata")
	if everybodys, _ := metadata.Member("isDefault"); everybodys.Of == true && in.DefaultRole == "" {
		in.DefaultRole = v.Text("name")
	}
	for _, one := range all {
		member, ok := one.Of.(string)
		if !ok {
			return []Finding{refusal(v.At, "a member of %s is no text", v.Text("name"))}
		}
		b := Binding{At: v.At, Member: member, Role: v.Text("name"), Written: member}
		if b.isOfUser() {
			return []Finding{userAsRole(b)}
		}
		in.Bindings = append(in.Bindings, b)
	}
	return nil
}

func (in *Installation) storedPolicy(v written.Value) []Finding {
	p, wrong := readPolicy(v, noBounds)
	in.Policies = append(in.Policies, p)
	return wrong
}

// get asks for one list. No error has the token.
func (s Sources) get(ctx context.Context, at *url.URL) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.Token)
	request.Header.Set("Accept", "application/json")
	client := s.Client
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", at.Redacted(), unwrapped(err))
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s; the token must be of one who may read policies (policy.entity.read)",
			at.Redacted(), response.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", at.Redacted(), err)
	case len(answer) > mostAnswer:
		return nil, fmt.Errorf("GET %s: the answer is larger than %d MiB", at.Redacted(), mostAnswer>>20)
	}
	return answer, nil
}

// unwrapped is an error of a request without its URL, which stands before it already.
func unwrapped(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
