package policy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// nobody is an address at which nobody listens.
func nobody(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	mustDo(t, err)
	mustDo(t, listener.Close())
	return listener.Addr().String()
}

// What a policy asks for, with a key in the URL, is told without it, in errors, in
// the log and in the decision log.
func TestFailuresTellNoSecretOfAURL(t *testing.T) {
	host := nobody(t)
	send := `http.send({"method": "GET", "url": "http://user:s3cr3t@` + host + `/x?token=s3cr3t"}).status_code == 200`
	policies := map[string]files{
		"evaluated": {
			".manifest": manifest("1", "p"),
			"p.rego":    "package p\n\n# METADATA\n# entrypoint: true\nallow if " + send + "\n",
		},
		"explored": {
			".manifest": manifest("1", "p"),
			"p.rego": "package p\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\n" +
				"default allow := false\n\nallow if catalog.has_label(input.resource, {\"label\": \"a\"})\n\n" +
				"allow if {\n\tcatalog.has_label(input.resource, {\"label\": \"b\"})\n\t" + send + "\n}\n",
		},
	}
	asked := wire.Permission{Name: "x", Resource: true, ResourceType: "catalog-entity"}
	for name, bundle := range policies {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			log, text := newTestLog()
			e := newEngine(t, Options{OPA: logTo(t, r, nil), Default: bundleFS(bundle), Mask: rego.Mask(), Log: log})
			batch, err := e.Decide(t.Context(), ann, []wire.Permission{asked})
			mustDo(t, err)
			outcome := batch.Outcomes[0]
			told := fmt.Sprint(outcome.Err, outcome.Excluded)
			log.WithError(outcome.Err).Error("as logged")
			mustContain(t, told, "http://…@"+host+"/x?…", "connection refused")
			mustContain(t, text.String(), host, "connection refused")
			mustDo(t, e.Audit().Record(t.Context(), Record{
				RequestID: "r", Caller: ann, Batch: batch, Permissions: []wire.Permission{asked}, Answers: make([]RecordedAnswer, 1),
			}))
			eventually(t, "the event", func() bool { return len(r.received()) == 1 })
			mustContain(t, r.raw.String(), host, "connection refused")
			for where, text := range map[string]string{"error": told, "log": text.String(), "decision log": r.raw.String()} {
				if strings.Contains(text, "s3cr3t") {
					t.Errorf("a secret in the %s: %s", where, text)
				}
			}
		})
	}
}
