package engine_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// nobody is an address at which nobody listens.
func nobody(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fixture.Must(t, err)
	fixture.Must(t, listener.Close())
	return listener.Addr().String()
}

// What a policy asks for, with a key in the URL, is told without it, in errors, in
// the log and in the decision log.
func TestFailuresTellNoSecretOfAURL(t *testing.T) {
	host := nobody(t)
	send := `http.send({"method": "GET", "url": "http://user:s3cr3t@` + host + `/x?token=s3cr3t"}).status_code == 200`
	policies := map[string]fixture.Files{
		"evaluated": {
			".manifest": fixture.Manifest("1", "p"),
			"p.rego":    "package p\n\n# METADATA\n# entrypoint: true\nallow if " + send + "\n",
		},
		"explored": {
			".manifest": fixture.Manifest("1", "p"),
			"p.rego": "package p\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\n" +
				"default allow := false\n\nallow if catalog.has_label(input.resource, {\"label\": \"a\"})\n\n" +
				"allow if {\n\tcatalog.has_label(input.resource, {\"label\": \"b\"})\n\t" + send + "\n}\n",
		},
	}
	asked := wire.Permission{Name: "x", Resource: true, ResourceType: "catalog-entity"}
	for name, bundle := range policies {
		t.Run(name, func(t *testing.T) {
			r := fixture.NewReceiver(t)
			log, text := fixture.NewLog()
			e := fixture.New(t, fixture.Options{OPA: fixture.LogTo(t, r, nil), Default: fixture.FS(bundle), Mask: rego.Mask(), Log: log,
				Reach: reach.Options{AllowNet: []string{"127.0.0.1"}}})
			batch, err := e.Engine.Decide(t.Context(), fixture.Ann(), []wire.Permission{asked})
			fixture.Must(t, err)
			outcome := batch.Outcomes[0]
			told := fmt.Sprint(outcome.Err, outcome.Excluded)
			log.WithError(outcome.Err).Error("as logged")
			fixture.Contains(t, told, "http://…@"+host+"/x?…", "connection refused")
			fixture.Contains(t, text.String(), host, "connection refused")
			fixture.Must(t, e.Decisions.Record(t.Context(), audit.Record{
				RequestID: "r", Caller: fixture.Ann(), Batch: batch, Permissions: []wire.Permission{asked}, Answers: make([]audit.Answer, 1),
			}))
			fixture.Eventually(t, "the event", func() bool { return len(r.Received()) == 1 })
			fixture.Contains(t, r.Raw(), host, "connection refused")
			for where, text := range map[string]string{"error": told, "log": text.String(), "decision log": r.Raw()} {
				if strings.Contains(text, "s3cr3t") {
					t.Errorf("a secret in the %s: %s", where, text)
				}
			}
		})
	}
}
