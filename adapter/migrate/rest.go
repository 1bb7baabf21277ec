package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// policiesRoute is where the plugin tells its lines.
const policiesRoute = "/api/permission/policies"

const (
	askTimeout = 30 * time.Second
	// mostAnswer is how large an answer of the plugin may be.
	mostAnswer = 64 << 20
)

// ask reads what a running plugin has stored.
func (s Sources) ask(ctx context.Context, in *installation) ([]Finding, error) {
	in.stored = true
	base, err := url.Parse(strings.TrimRight(s.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("the URL of Backstage is no http or https URL")
	}
	var refused []Finding
	for _, route := range []struct {
		name string
		read func(v value) []Finding
	}{
		{policiesRoute, in.storedLine},
		{"/api/permission/roles", in.storedRole},
		{"/api/permission/roles/conditions", in.storedPolicy},
	} {
		answer, err := s.get(ctx, base.JoinPath(route.name))
		if err != nil {
			return nil, err
		}
		documents, wrong := readYAML(route.name, answer)
		refused = append(refused, wrong...)
		if len(wrong) > 0 {
			continue
		}
		var all list
		if len(documents) == 1 {
			all, _ = documents[0].of.(list)
		}
		if len(documents) != 1 || all == nil {
			refused = append(refused, refusal(Place{File: route.name}, "the answer is no list"))
			continue
		}
		for i, one := range all {
			refused = append(refused, route.read(renumbered(one, i+1))...)
		}
	}
	return refused, nil
}

// renumbered is a value that stands at the nth element of an answer, all of it.
func renumbered(v value, n int) value {
	v.at.Line = n
	switch of := v.of.(type) {
	case list:
		for i := range of {
			of[i] = renumbered(of[i], n)
		}
	case *object:
		for name, member := range of.members {
			of.members[name] = renumbered(member, n)
		}
	}
	return v
}

func (in *installation) storedLine(v value) []Finding {
	l := line{at: v.at, subject: v.text("entityReference"), object: v.text("permission"), action: v.text("policy"),
		effect: v.text("effect")}
	if l.subject == "" || l.object == "" || l.action == "" || l.effect == "" {
		return []Finding{refusal(v.at, "want entityReference, permission, policy and effect")}
	}
	in.lines = append(in.lines, l)
	return nil
}

func (in *installation) storedRole(v value) []Finding {
	members, _ := v.member("memberReferences")
	all, ok := members.of.(list)
	if v.text("name") == "" || !ok {
		return []Finding{refusal(v.at, "want name and memberReferences")}
	}
	for _, one := range all {
		member, ok := one.of.(string)
		if !ok {
			return []Finding{refusal(v.at, "a member of %s is no text", v.text("name"))}
		}
		in.bindings = append(in.bindings, binding{at: v.at, member: strings.ToLower(member), role: v.text("name"),
			written: member})
	}
	return nil
}

func (in *installation) storedPolicy(v value) []Finding {
	p, wrong := readPolicy(v)
	in.policies = append(in.policies, p)
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
