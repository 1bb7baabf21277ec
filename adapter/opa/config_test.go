package opa

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestOPADocumentIsChecked(t *testing.T) {
	tests := map[string]struct {
		options Options
		want    []string // lines, none where it is in order
	}{
		"nothing": {Options{}, nil},
		"everything that stagedoor uses": {Options{Config: json.RawMessage(`{
			"labels": {"region": "eu"},
			"services": {"acme": {"url": "http://b", "credentials": {"bearer": {"token_path": "t"}}, "headers": {"x": "y"}, "tls": {"ca_cert": "c"}}},
			"keys": {"k": {"key": "pem", "algorithm": "ES256", "scope": "read"}},
			"bundles": {"authz": {"service": "acme", "resource": "b.tar.gz", "persist": true, "trigger": "periodic", "size_limit_bytes": 5,
				"polling": {"min_delay_seconds": 1, "max_delay_seconds": 2, "long_polling_timeout_seconds": 3, "superseded_etag_ttl_seconds": 4},
				"signing": {"keyid": "k", "scope": "read", "exclude_files": ["x"], "allow_unsigned_delta_bundles": false}}},
			"decision_logs": {"service": "acme", "console": true, "mask_decision": "/a", "request_context": {"http": {"headers": ["x"]}},
				"reporting": {"max_decisions_per_second": 1}},
			"caching": {"inter_query_builtin_cache": {"max_size_bytes": 1}},
			"persistence_directory": "p"}`)}, nil},
		"services as a list": {Options{Config: json.RawMessage(`{"services": [{"name": "acme", "url": "http://b", "typ": "oci"}]}`)},
			[]string{"opa.services.0.typ: unknown key; the nearest known one is opa.services.0.type"}},
		"unknown keys": {Options{Config: json.RawMessage(`{
			"decisionlogs": {}, "bundles": {"a": {"polling": {"min_delay": 1}, "signing": {"key_id": "k"}}},
			"decision_logs": {"reporting": {"buffer_typ": "event"}}, "status": {"promtheus": true},
			"discovery": {"decisio": "x"}, "keys": {"k": {"algorithms": "x"}}, "caching": {"inter_query_builtin_cache": {"max_size": 1}},
			"services": {"s": {"credentials": {"berer": {}}}}}`)},
			[]string{
				"opa.bundles.a.polling.min_delay: unknown key; the nearest known one is opa.bundles.a.polling.min_delay_seconds",
				"opa.bundles.a.signing.key_id: unknown key; the nearest known one is opa.bundles.a.signing.keyid",
				"opa.decision_logs.reporting.buffer_typ: unknown key; the nearest known one is opa.decision_logs.reporting.buffer_type",
				"opa.decisionlogs: unknown key; the nearest known one is opa.decision_logs",
				"opa.discovery.decisio: unknown key; the nearest known one is opa.discovery.decision",
				"opa.keys.k.algorithms: unknown key; the nearest known one is opa.keys.k.algorithm",
				"opa.services.s.credentials.berer: unknown key; the nearest known one is opa.services.s.credentials.bearer",
				"opa.status.promtheus: unknown key; the nearest known one is opa.status.prometheus",
				"opa.caching.inter_query_builtin_cache.max_size: unknown key",
				"opa.services.s.url: want http://host or https://host",
			}},
		"singular bundle":     {Options{Config: json.RawMessage(`{"bundle": {"name": "b"}}`)}, []string{"opa.bundle: this older key gets past the vetting"}},
		"audit without a log": {Options{AuditRequired: true}, []string{"stagedoor.audit.required: opa.decision_logs says nowhere"}},
		"audit with what it excludes": {Options{AuditRequired: true, Config: json.RawMessage(`{"decision_logs": {"plugin": "p", "reporting": {
			"buffer_type": "size", "buffer_size_limit_bytes": 5, "trigger": "immediate", "max_decisions_per_second": 1}}}`)}, []string{
			"opa.decision_logs.plugin: not with stagedoor.audit.required",
			"opa.decision_logs.reporting.trigger: not with", "opa.decision_logs.reporting.max_decisions_per_second: not with",
			"opa.decision_logs.reporting.buffer_size_limit_bytes: not with", "opa.decision_logs.reporting.buffer_type: stagedoor.audit.required needs",
		}},
		"audit with what comes by discovery": {Options{AuditRequired: true, Config: json.RawMessage(`{
			"services": {"s": {"url": "http://b"}}, "discovery": {"resource": "d"}, "decision_logs": {"service": "s"}}`)},
			[]string{"opa.discovery: not with stagedoor.audit.required"}},
		"no JSON": {Options{Config: json.RawMessage(`{`)}, []string{"opa: "}},
		"no such service": {Options{Config: json.RawMessage(`{"services": {"s": {"url": "http://b"}}, "bundles": {"b": {"service": "t"}}}`)},
			[]string{`opa: invalid configuration for bundle "b": service name "t" not found`}},
		"no such key": {Options{Config: json.RawMessage(`{"services": {"s": {"url": "http://b"}}, "keys": {"k": {"key": "pem", "algorithm": "ES256"}},
			"bundles": {"b": {"service": "s", "signing": {"keyid": "l"}}}}`)}, []string{"opa: "}},
		"no such service of the log": {Options{Config: json.RawMessage(`{"decision_logs": {"service": "t"}}`)}, []string{"opa: "}},
		"no such plugin":             {Options{Config: json.RawMessage(`{"decision_logs": {"plugin": "p"}}`)}, []string{"opa: "}},
		"no such buffer": {Options{Config: json.RawMessage(`{"services": {"s": {"url": "http://b"}},
			"decision_logs": {"service": "s", "reporting": {"buffer_type": "b"}}}`)}, []string{"opa: "}},
		"a delay that is less than the least": {Options{Config: json.RawMessage(`{"services": {"s": {"url": "http://b"}},
			"bundles": {"b": {"service": "s", "polling": {"min_delay_seconds": 9, "max_delay_seconds": 2}}}}`)}, []string{"opa: "}},
		"audit without a receiver": {Options{AuditRequired: true, Config: json.RawMessage(`{"decision_logs": {"console": true}}`)},
			[]string{"stagedoor.audit.required: opa.decision_logs names no service."}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, line := range lines {
				if !strings.HasPrefix(line, test.want[i]) {
					t.Errorf("%q\nwant %q", line, test.want[i])
				}
			}
		})
	}
}

func TestPolicyKeys(t *testing.T) {
	for config, want := range map[string]string{
		"": "[]", `{"bundles": {}}`: "[]", `{"bundles": {"a": {}}, "discovery": {"resource": "d"}}`: "[opa.bundles opa.discovery]",
	} {
		if got := fmt.Sprint(Options{Config: json.RawMessage(config)}.PolicyKeys()); got != want {
			t.Errorf("%s: %s, want %s", config, got, want)
		}
	}
}

func TestShippedDefaults(t *testing.T) {
	tests := map[string]struct{ given, want string }{
		"nothing": {`{}`, `{}`},
		"all": {
			`{"bundles": {"a": {"resource": "a"}}, "decision_logs": {"service": "s"}}`,
			`{"bundles": {"a": {"resource": "a", "size_limit_bytes": 67108864}}, "decision_logs": {"service": "s", "reporting": {
				"buffer_type": "event", "buffer_size_limit_events": 16384, "upload_size_limit_bytes": 131072,
				"min_delay_seconds": 1, "max_delay_seconds": 2, "trigger": "manual"}}, "status": {"prometheus": true}}`,
		},
		"what is said stays": {
			`{"bundles": {"a": {"size_limit_bytes": 5}}, "decision_logs": {"reporting": {"buffer_size_limit_bytes": 9, "min_delay_seconds": 3,
				"max_delay_seconds": 4, "upload_size_limit_bytes": 100, "trigger": "immediate"}}, "status": {"console": true, "prometheus": false}}`,
			`{"bundles": {"a": {"size_limit_bytes": 5}}, "decision_logs": {"reporting": {"buffer_size_limit_bytes": 9, "min_delay_seconds": 3,
				"max_delay_seconds": 4, "upload_size_limit_bytes": 100, "trigger": "immediate"}}, "status": {"console": true, "prometheus": false}}`,
		},
		// OPA refuses another trigger than that of discovery.
		"discovery": {
			`{"discovery": {"resource": "d"}, "decision_logs": {"service": "s"}, "status": {"service": "s"}}`,
			`{"discovery": {"resource": "d"}, "decision_logs": {"service": "s", "reporting": {
				"buffer_type": "event", "buffer_size_limit_events": 16384, "upload_size_limit_bytes": 131072,
				"min_delay_seconds": 1, "max_delay_seconds": 2}}, "status": {"service": "s", "prometheus": true}}`,
		},
		"a buffer by size": {
			`{"decision_logs": {"reporting": {"buffer_type": "size"}}, "status": {"prometheus": true}}`,
			`{"decision_logs": {"reporting": {"buffer_type": "size", "buffer_size_limit_bytes": 67108864, "upload_size_limit_bytes": 131072,
				"min_delay_seconds": 1, "max_delay_seconds": 2, "trigger": "manual"}}, "status": {"prometheus": true}}`,
		},
		// Then OPA sends it to the first service, which it would not with prometheus.
		"a status that says nothing": {`{"discovery": {"resource": "d"}, "status": {}}`, `{"discovery": {"resource": "d"}, "status": {}}`},
		"a status with a service":    {`{"status": {"service": "s"}}`, `{"status": {"service": "s", "prometheus": true}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			document, err := Options{Config: json.RawMessage(test.given)}.document()
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			text, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Checking leaves nothing running: a process that reads its configuration anew checks it each
// time.
func TestCheckingLeavesNothing(t *testing.T) {
	synctest.Test(t, func(*testing.T) { // which fails where a goroutine is left
		for range 10 {
			_ = Options{Config: json.RawMessage(`{
				"services": {"acme": {"url": "http://b"}}, "bundles": {"authz": {"service": "acme"}},
				"decision_logs": {"service": "acme"}, "status": {"service": "acme"}}`)}.Validate()
		}
	})
}
