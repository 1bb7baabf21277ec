package adapter_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestConditionsFitWhatWasAsked asks under one name for a resource, for a basic
// permission, and for other resource types, in the order in which a memory of
// decisions could go wrong.
func TestConditionsFitWhatWasAsked(t *testing.T) {
	t.Run("failing", func(t *testing.T) {
		conditionsFit(t, false, func(status int, body string) bool {
			return status == http.StatusInternalServerError && !strings.Contains(body, "IS_OWNER")
		})
	})
	t.Run("denying", func(t *testing.T) {
		conditionsFit(t, true, func(status int, body string) bool {
			return status == http.StatusOK && body == `{"items":[{"id":"1","result":"DENY"}]}`
		})
	})
}

// conditionsFit asks; refused tells whether an answer is that to what the conditions
// do not fit.
func conditionsFit(t *testing.T, denyOnError bool, refused func(status int, body string) bool) {
	site := newSite(t, siteOptions{policyDir: peerPolicy(t), entrypoint: "peer/authz/decision", denyOnError: denyOnError, asTheyCome: true})
	token, err := site.backstage.UserToken("user:default/alice")
	check(t, err)
	ask := func(kind, resourceType, ref string) (int, string) {
		permission := `{"type":"` + kind + `","name":"todo.item.update","attributes":{}`
		if resourceType != "none" {
			permission += `,"resourceType":"` + resourceType + `"`
		}
		return site.post(t, token, `{"items":[{"id":"1","permission":`+permission+`}`+ref+`}]}`)
	}
	const ref = `,"resourceRef":"todo-1"`
	for range 2 {
		if status, body := ask("resource", "todo-item", ref); status != http.StatusOK || body != allowed {
			t.Errorf("resource: %d %s", status, body)
		}
		for _, odd := range [][3]string{{"basic", "none", ""}, {"resource", "other", ref}, {"resource", "", ref}} {
			if status, body := ask(odd[0], odd[1], odd[2]); !refused(status, body) {
				t.Errorf("%q: %d %s", odd, status, body)
			}
		}
	}
}

func TestLargeNumbersReachThePolicyAsWritten(t *testing.T) {
	site := newSite(t, siteOptions{entrypoint: "n/allow", policyDir: writeBundle(t, map[string]string{
		".manifest": `{"roots":["n"]}`, "n.rego": "package n\n\nallow if input.n == 9007199254740992\n",
	})})
	for number, want := range map[string]string{"9007199254740992": "ALLOW", "9007199254740993": "DENY"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.admin+"/v1/data/n/allow",
			strings.NewReader(`{"input":{"n":`+number+`}}`))
		check(t, err)
		request.Header.Set("Content-Type", "application/json")
		if _, body := site.do(t, request); strings.TrimSpace(body) != `{"result":{"result":"`+want+`"}}` {
			t.Errorf("%s: %s", number, body)
		}
	}
}

// TestPathsInTheLog asks for paths that nobody should have sent.
func TestPathsInTheLog(t *testing.T) {
	site := newSite(t, siteOptions{})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	site.get(t, site.url+"/authorize/"+token)
	site.get(t, site.url+"/"+strings.Repeat("x/", 10_000))
	if log := site.log.String(); strings.Contains(log, "eyJ") || strings.Contains(log, token[len(token)-40:]) || len(log) > 10_000 {
		t.Errorf("%d bytes of log: %.2000s", len(log), log)
	}
}

func TestSlowBodyHoldsNoPlace(t *testing.T) {
	site := newSite(t, siteOptions{inFlight: 1})
	token, err := site.backstage.PluginToken("user:default/alice")
	check(t, err)
	hold := newSlowBody()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/authorize", hold)
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	done := make(chan struct{})
	go func() {
		defer close(done)
		site.do(t, request)
	}()
	<-hold.read
	const body = `{"items":[{"id":"1","permission":{"type":"basic","name":"a","attributes":{"action":"read"}}}]}`
	if status, text := site.post(t, token, body); status != http.StatusOK {
		t.Errorf("beside a slow body: %d %s", status, text)
	}
	close(hold.end)
	<-done
}

// slowBody is a body that is not complete until end is closed.
type slowBody struct {
	read, end chan struct{}
	begun     bool
}

func newSlowBody() *slowBody { return &slowBody{read: make(chan struct{}), end: make(chan struct{})} }

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		return copy(p, `{"items":[`), nil
	}
	close(b.read)
	<-b.end
	return copy(p, `]}`), io.EOF
}
