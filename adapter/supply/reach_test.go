package supply_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/open-policy-agent/opa/v1/plugins/discovery"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// outside is a server that nobody should ask, and the count of those who did.
func outside(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// A policy that reaches further than the operator lets it does not load, and the
// refusal says what to add. Computed hosts are refused when it decides.
func TestPoliciesReachWhatIsAllowed(t *testing.T) {
	url, asked := outside(t)
	for name, test := range map[string]struct {
		rule    string
		reach   reach.Options
		refused string // at load
		failed  string // when it decides
		asked   int32
	}{
		"by default":          {rule: `http.send({"method": "GET", "url": "` + url + `"}).status_code == 200`, refused: "allowNet"},
		"computed by default": {rule: `http.send({"method": "GET", "url": input.permission.name}).status_code == 200`, refused: "allowNet"},
		"runtime":             {rule: `opa.runtime().env.X == "y"`, refused: "p.rego:5: rego_compile_error: policies may not call opa.runtime here; where they should, add it to stagedoor.policy.capabilities.allowBuiltins"},
		"runtime by name":     {rule: `opa.runtime() == {}`, reach: reach.Options{AllowBuiltins: []string{"opa.runtime"}}},
		"allowed": {
			rule: `http.send({"method": "GET", "url": "` + url + `"}).status_code == 200`, reach: reach.Options{AllowNet: []string{"127.0.0.1"}}, asked: 1,
		},
		"computed elsewhere": {
			rule:   `http.send({"method": "GET", "url": replace("` + url + `", "127.0.0.1", "localhost")}).status_code == 200`,
			reach:  reach.Options{AllowNet: []string{"127.0.0.1"}},
			failed: `may not reach the host "localhost" here; where it should, add it to stagedoor.policy.capabilities.allowNet`,
		},
		"asked about the resource": {
			rule: `data.backstage.catalog.has_label(input.resource, {"label": "a"})` + "\n\t" +
				`http.send({"method": "GET", "url": replace("` + url + `", "127.0.0.1", "localhost")}).status_code == 200`,
			reach:  reach.Options{AllowNet: []string{"127.0.0.1"}},
			failed: "allowNet",
		},
		"schema at load": {rule: "true\n}\n\n# METADATA\n# schemas:\n#   - input: {$ref: \"" + url + "\"}\ny if {\n\tinput.x", refused: "may refer to nothing elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			bundle := fixture.Files{
				".manifest": fixture.Manifest("1", "p"),
				"p.rego":    "package p\n\n# METADATA\n# entrypoint: true\nallow if {\n\t" + test.rule + "\n}\n",
			}
			e, err := fixture.Try(t, fixture.Options{Default: fixture.FS(bundle), Reach: test.reach})
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(test.refused, "p.rego:5", "p.rego:6")) {
					t.Fatalf("got %v, want %q", err, test.refused)
				}
				return
			}
			fixture.Must(t, err)
			ask := wire.Permission{Name: "x"}
			if strings.Contains(test.rule, "resource") {
				ask = wire.Permission{Name: "x", Resource: true, ResourceType: "catalog-entity"}
			}
			batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{ask})
			fixture.Must(t, err)
			outcome := batch.Outcomes[0]
			switch {
			case test.failed == "" && (outcome.Err != nil || outcome.Decision.Result != wire.Allow):
				t.Errorf("got %+v", outcome)
			case test.failed != "" && (outcome.Decision.Result != wire.Deny ||
				!strings.Contains(outcome.Err.Error()+strings.Join(texts(outcome.Excluded), ""), test.failed)):
				t.Errorf("got %+v, want %q", outcome, test.failed)
			}
			if got := asked.Load(); got != test.asked {
				t.Errorf("asked %d times, want %d", got, test.asked)
			}
		})
	}
}

func texts(errs []error) (all []string) {
	for _, err := range errs {
		all = append(all, err.Error())
	}
	return all
}

// A mask of the decision log is held to the same: OPA evaluates it itself.
func TestMasksReachWhatIsAllowed(t *testing.T) {
	url, asked := outside(t)
	bundle := func(mask string) fixture.Files {
		return fixture.Files{
			".manifest": fixture.Manifest("1", "p", "system/log"),
			"p.rego":    "package p\n\n# METADATA\n# entrypoint: true\nallow := true\n",
			"mask.rego": "package system.log\n\nmask contains \"/input\" if " + mask + "\n",
		}
	}
	send := `http.send({"method": "GET", "url": "` + url + `"}).status_code == 200`
	if _, err := fixture.Try(t, fixture.Options{Default: fixture.FS(bundle(send)), Mask: rego.Mask()}); err == nil ||
		!strings.Contains(err.Error(), "allowNet") {
		t.Errorf("a mask that reaches out loads: %v", err)
	}
	computed := strings.Replace(send, `"`+url+`"`, `replace("`+url+`", "127.0.0.1", "localhost")`, 1)
	r := fixture.NewReceiver(t)
	log, told := fixture.NewLog()
	e := fixture.New(t, fixture.Options{
		OPA: fixture.LogTo(t, r, nil), Default: fixture.FS(bundle(computed)), Mask: rego.Mask(), Log: log,
		Reach: reach.Options{AllowNet: []string{"127.0.0.1"}},
	})
	batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{fixture.Basic("x")})
	fixture.Must(t, err)
	_ = e.Decisions.Record(t.Context(), audit.Record{
		RequestID: "r", Caller: fixture.Ann(), Batch: batch, Permissions: []wire.Permission{fixture.Basic("x")},
		Answers: make([]audit.Answer, 1),
	})
	fixture.Eventually(t, "the refusal in the log or an event without the mask's effect", func() bool {
		return strings.Contains(told.String(), "allowNet") || len(r.Received()) > 0
	})
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// So is a discovery bundle, which OPA compiles and evaluates by a way of its own.
func TestDiscoveryReachesNobody(t *testing.T) {
	url, asked := outside(t)
	s := fixture.NewServer(t)
	s.Put("discovery", fixture.Archive(t, fixture.Files{
		"d.rego": "package config\n\nlabels := {\"x\": x} if x := http.send({\"method\": \"GET\", \"url\": \"" + url +
			"\", \"raise_error\": false}).raw_body\n",
	}))
	o := discoverFrom(t, s)
	o.Reach = reach.Options{AllowNet: []string{"127.0.0.1"}} // which is for policies
	e := fixture.New(t, o)
	_ = discovery.Lookup(e.Manager.Manager).Trigger(t.Context())
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
