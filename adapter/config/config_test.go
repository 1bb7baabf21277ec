package config

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/remote"
	"github.com/stagedoor/stagedoor/adapter/supply"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func environ(pairs ...string) (environment []string) {
	for i := 0; i < len(pairs); i += 2 {
		environment = append(environment, pairs[i]+"="+pairs[i+1])
	}
	return environment
}

const minimal = "backend: {baseUrl: http://127.0.0.1:7007}\n"

func TestDefaults(t *testing.T) {
	c, err := load([]string{write(t, "a.yaml", minimal)}, nil, environ())
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Endpoint:  endpoint.Options{Address: "127.0.0.1:7008", Connections: 10_000},
		Admin:     endpoint.Options{Address: "127.0.0.1:7009", Connections: 500},
		AdminData: true, ShutdownDelay: 5 * time.Second, BasePath: "/api/permission",
		Body: 10 << 20, Items: 10_000, InFlight: 1024, Answer: 32 << 20, Data: 64 << 20, FromMetadata: true, LogLevel: logrus.InfoLevel,
		Discovery:  discovery.Options{BaseURL: "http://127.0.0.1:7007"},
		Engine:     engine.Options{Decision: time.Second, Answer: 32 << 20, Memo: 96 << 20},
		Conditions: conditions.Options{Timeout: 10 * time.Second},
	}
	want.Identity.UserInfoTTL, want.Identity.TokenCache, want.Identity.UserInfoCache = 5*time.Second, 32<<20, 32<<20
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEveryKey sets every key that there is to something else than its default.
func TestEveryKey(t *testing.T) {
	c, err := load([]string{write(t, "app-config.yaml", `
app: {title: not for us}
permission: {enabled: true}
integrations: {github: [{token: "${NOT_SET}"}]}
backend:
  baseUrl: ${BASE}
  cors: {origin: ["http://localhost:3000", "https://*.{one,two}.org"], methods: "GET, POST", credentials: true, maxAge: 60}
  auth: {dangerouslyDisableDefaultAuthPolicy: true}
  lifecycle: {serverShutdownDelay: {minutes: 1, seconds: 30}}
  database: {client: pg}
discovery:
  endpoints:
    - {target: "http://a/{{pluginId}}", plugins: [catalog]}
    - {target: {internal: "http+srv://b/todo", external: "https://b"}, plugins: [todo]}
    - {target: {external: "https://front"}, plugins: [app]}
`), write(t, "stagedoor.yaml", `
stagedoor:
  listen: 0.0.0.0:1
  basePath: /p
  h2c: true
  admin: {listen: "unix:/run/s", h2c: true, token: "${ADMIN}", data: no, strict: yes}
  policy: {entrypoint: /a/b/, onError: deny, maxAge: 1h, onStale: fail,
    remote: {url: "http://opa", token: "${SECRET}", parallel: 3}}
  limits: {body: 1MiB, items: 5, inFlight: "${MANY}", connections: 9, decision: 250ms}
  identity: {userInfoTtl: 9s, leeway: 1s}
  audit: {required: "${YES}", callers: true}
  log: {level: debug}
opa:
  services: {s: {url: "http://logs", credentials: {bearer: {token: "$${literal}"}}}}
  decision_logs: {service: s}
`)}, nil, environ("BASE", "http://x", "SECRET", "s3cret", "MANY", "7", "YES", "true", "ADMIN", "0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Endpoint:    endpoint.Options{Address: "0.0.0.0:1", H2C: true, Connections: 9},
		Admin:       endpoint.Options{Address: "unix:/run/s", H2C: true, Connections: 500},
		AdminTokens: []string{"0123456789abcdef"}, AdminStrict: true, ShutdownDelay: 90 * time.Second, BasePath: "/p",
		Body: 1 << 20, Items: 5, InFlight: 7, Answer: 32 << 20, Data: 64 << 20, FromMetadata: true, DenyOnError: true, LogLevel: logrus.DebugLevel,
		Discovery: discovery.Options{BaseURL: "http://x", Endpoints: []discovery.Endpoint{
			{Target: "http://a/{{pluginId}}", Plugins: []string{"catalog"}},
			{Target: "http+srv://b/todo", Plugins: []string{"todo"}},
			{Plugins: []string{"app"}},
		}},
		Conditions: conditions.Options{Timeout: 10 * time.Second},
		Entrypoint: "a/b",
		Supply:     supply.Options{MaxAge: time.Hour, DenyStale: true},
		OPA: opa.Options{
			AuditRequired: true,
			Config: []byte(`{"decision_logs":{"service":"s"},` +
				`"services":{"s":{"credentials":{"bearer":{"token":"${literal}"}},"url":"http://logs"}}}`),
		},
		Engine: engine.Options{Decision: 250 * time.Millisecond, Answer: 32 << 20, Memo: 96 << 20},
		Audit:  audit.Options{Required: true, Callers: true},
		Remote: &remote.Options{
			Entrypoint: "a/b", Decision: 250 * time.Millisecond, URL: "http://opa", Token: "s3cret", Parallel: 3,
		},
	}
	want.Identity.UserInfoTTL, want.Identity.Leeway = 9*time.Second, time.Second
	want.Identity.TokenCache, want.Identity.UserInfoCache = 32<<20, 32<<20
	want.Identity.DangerouslyDisableDefaultAuthPolicy = true
	if c.CORS == nil || c.CORS.AllowedMethods[1] != "POST" || !c.CORS.AllowCredentials || c.CORS.MaxAge != 60 {
		t.Errorf("CORS %+v", c.CORS)
	}
	for origin, want := range map[string]bool{
		"http://localhost:3000": true, "https://a.one.org": true, "https://b.two.org": true,
		"http://localhost:3001": false, "https://evil.org/.one.org": false, "https://one.org.evil": false, "": false,
	} {
		if got := c.CORS.AllowOriginFunc(origin); got != want {
			t.Errorf("origin %q: %v", origin, got)
		}
	}
	c.CORS = nil
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFilesMergeInOrder(t *testing.T) {
	c, err := load([]string{
		write(t, "1.yaml", minimal+"discovery: {endpoints: [{target: 'http://a', plugins: [a]}, {target: 'http://b', plugins: [b]}]}\nstagedoor: {listen: 'h:1', basePath: /one}"),
		write(t, "2.yaml", "discovery: {endpoints: [{target: 'http://c', plugins: [c]}]}\nstagedoor: {listen: 'h:2'}"),
	}, map[string]any{"backend": map[string]any{"baseUrl": "http://last"}}, environ())
	if err != nil {
		t.Fatal(err)
	}
	if c.Endpoint.Address != "h:2" || c.BasePath != "/one" || c.Discovery.BaseURL != "http://last" {
		t.Errorf("objects are merged: %+v", c)
	}
	if len(c.Discovery.Endpoints) != 1 || c.Discovery.Endpoints[0].Target != "http://c" {
		t.Errorf("lists are replaced: %+v", c.Discovery.Endpoints)
	}
}

func TestDirectives(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"token":       "from-file\n",
		"more.yaml":   "deep: {url: 'http://included/${WHO}'}",
		"config.yaml": "backend: {baseUrl: {$include: 'more.yaml#deep.url'}}\nstagedoor: {log: {level: {$env: LEVEL}}, policy: {entrypoint: a/b, remote: {url: '${URL:-http://fallback}', token: {$file: token}}}}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := load([]string{filepath.Join(dir, "config.yaml")}, nil, environ("LEVEL", "error", "WHO", "me"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Discovery.BaseURL != "http://included/me" || c.LogLevel != logrus.ErrorLevel ||
		c.Remote.URL != "http://fallback" || c.Remote.Token != "from-file" {
		t.Errorf("%+v\n%+v", c, c.Remote)
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string // lines, or starts of lines
	}{
		"unknown keys": {
			minimal + "stagedoor: {lisen: 'h:1', policy: {pth: x}, limits: {body: 10XB}}",
			[]string{
				"stagedoor.limits.body: want a size",
				"stagedoor.lisen: unknown key; the nearest known one is stagedoor.listen",
				"stagedoor.policy.pth: unknown key; the nearest known one is stagedoor.policy.path",
			},
		},
		"unknown keys of OPA": {
			minimal + "stagedoor: {policy: {path: x}, audit: {required: true}}\nopa: {bundels: {}, bundles: {b: {signing: {keyd: k}}}, services: {s: {ulr: 'http://x'}}}",
			[]string{
				"opa.bundels: unknown key; the nearest known one is opa.bundles",
				"opa.bundles.b.signing.keyd: unknown key; the nearest known one is opa.bundles.b.signing.keyid",
				"opa.services.s.ulr: unknown key; the nearest known one is opa.services.s.url",
				"opa.services.s.url: want http://host or https://host",
				"stagedoor.audit.required: opa.decision_logs says nowhere",
				"stagedoor.policy.path and opa.bundles both say where the policy is",
			},
		},
		"remote beside other policies": {
			minimal + "stagedoor: {policy: {path: x, entrypoint: a/b, remote: {url: 'http://o'}}}\nopa: {services: {s: {url: 'http://b'}}, bundles: {b: {service: s}}}",
			[]string{
				"stagedoor.policy.path and opa.bundles both say where the policy is",
				"stagedoor.policy.path and stagedoor.policy.remote both say who decides",
				"stagedoor.policy.remote and the bundles of opa both say who decides",
			},
		},
		"remote without an entrypoint": {
			minimal + "stagedoor: {policy: {remote: {url: 'http://o'}}}",
			[]string{"stagedoor.policy.entrypoint: required with stagedoor.policy.remote"},
		},
		"other case": {minimal + "stagedoor: {Listen: 'h:1'}", []string{"stagedoor.Listen: unknown key"}},
		"values": {
			"backend: {baseUrl: 'ftp://x'}\nstagedoor: {listen: nonsense, basePath: 'p?', policy: {onError: allow, onStale: x, maxAge: -1s}, limits: {items: 0}, log: {level: loud}, identity: {leeway: 1h}}\nopa: 7",
			[]string{
				"backend.baseUrl: want an http or https URL",
				"opa: want an object",
				"stagedoor.basePath: want a path",
				"stagedoor.identity.leeway: want 0s to 5m0s",
				"stagedoor.limits.items: want more than 0",
				"stagedoor.listen: want host:port",
				"stagedoor.log.level: want debug",
				"stagedoor.policy.maxAge: want a positive duration",
				"stagedoor.policy.onError: want fail or deny, have \"allow\"",
				"stagedoor.policy.onStale: want serve or fail",
			},
		},
		"types": {
			minimal + "stagedoor: {limits: {items: many, decision: soon}, audit: {required: maybe}, listen: 7008, tls: true, policy: [a], admin: {dataRoots: users, token: 7}}",
			[]string{
				"stagedoor.admin.dataRoots: want a list, have a text",
				"stagedoor.admin.token: want a list, have the number 7",
				"stagedoor.audit.required: want true or false, have a text",
				"stagedoor.limits.decision: want a duration with its unit",
				"stagedoor.limits.items: want a number",
				"stagedoor.listen: want a text, in quotes, have the number 7008",
				"stagedoor.policy: want an object, have a list",
				"stagedoor.tls: want an object, have true",
			},
		},
		"types of OPA": {
			minimal + "opa: {decision_logs: x, bundles: {b: {polling: 5}}, services: 7, labels: [a]}",
			[]string{
				"opa.bundles.b.polling: want an object",
				"opa.decision_logs: want an object",
				"opa.labels: want an object",
				"opa.services: want an object",
			},
		},
		"types within OPA's": {
			minimal + "opa: {services: {s: {url: 'http://x'}}, bundles: {b: {service: s, polling: {min_delay_seconds: x}}}}",
			[]string{"opa: min_delay_seconds: want a number, have JSON of type string"},
		},
		"delays of no time": {
			minimal + "opa: {services: {s: {url: 'http://x'}}, bundles: {b: {service: s, polling: {min_delay_seconds: 0, max_delay_seconds: -1}}}, decision_logs: {service: s, reporting: {min_delay_seconds: 0, max_delay_seconds: 1}}}",
			[]string{
				"opa.bundles.b.polling.max_delay_seconds: want 1 at least, have -1",
				"opa.bundles.b.polling.min_delay_seconds: want 1 at least, have 0",
				"opa.decision_logs.reporting.min_delay_seconds: want 1 at least, have 0",
			},
		},
		"what OPA takes and cannot do": {
			minimal + "stagedoor: {audit: {required: true}}\nopa: {services: {e: {url: 'https://x'}}, bundles: {b: {service: e, trigger: manual}}, decision_logs: {service: e, reporting: {upload_size_limit_bytes: 10}}}",
			[]string{
				"opa.bundles.b.trigger: with manual it is never loaded",
				"opa.decision_logs.reporting.upload_size_limit_bytes: want 16384 at least, have 10",
			},
		},
		"addresses that are none": {
			minimal + "opa: {services: {a: {url: 'not a url'}, b: {url: ''}, c: {url: 'ftp://user:hunter2@x'}, d: {}, e: {url: 'https://x'}}, distributed_tracing: {type: grpc, address: localhost}}",
			[]string{
				"opa.distributed_tracing.address: has no port: write host:port",
				"opa.services.a.url: want http://host or https://host",
				"opa.services.b.url: want http://host or https://host",
				"opa.services.c.url: want http://host or https://host",
				"opa.services.d.url: want http://host or https://host",
			},
		},
		"a collector's URL": {
			minimal + "opa: {distributed_tracing: {type: http, address: 'https://user:hunter2@x'}}",
			[]string{"opa.distributed_tracing.address: is a URL: write host:port alone"},
		},
		"files that are not there": {
			minimal + "stagedoor: {policy: {entrypoint: a/b, remote: {url: 'https://o', caFile: /nowhere}}}\nopa: {persistence_directory: /dev/null, distributed_tracing: {type: grpc, encryption: tls, tls_ca_cert_file: /nowhere}}",
			[]string{
				"opa.distributed_tracing.tls_ca_cert_file: open /nowhere: no such file",
				"opa.persistence_directory: /dev/null is a file: want a folder",
				"stagedoor.policy.remote.caFile: open /nowhere: no such file",
			},
		},
		"addresses": {minimal + "stagedoor: {listen: '0.0.0.0:7009'}", []string{"stagedoor.admin.listen: is where the permission API is, too"}},
		"no port":   {minimal + "stagedoor: {listen: '127.0.0.1:99999'}", []string{"stagedoor.listen: want a port of 0 to 65535"}},
		"one socket": {
			minimal + "stagedoor: {listen: 'unix:/run/s', admin: {listen: 'unix:/run/s'}}", []string{"stagedoor.admin.listen: is where the permission API is, too"},
		},
		"an age too short": {
			minimal + "stagedoor: {policy: {path: x, maxAge: 1s}}", []string{"stagedoor.policy.maxAge: want 10s at least"},
		},
		"an empty path":  {minimal + "stagedoor: {policy: {path: ''}}", []string{"stagedoor.policy.path: is empty"}},
		"no path at all": {minimal + "stagedoor: {policy: {path: null}}", []string{"stagedoor.policy.path: is empty"}},
		"durations":      {minimal + "stagedoor: {limits: {decision: {seconds: 2}}, policy: {maxAge: 1d}, identity: {userInfoTtl: 1m30s}}", nil},
		"unset variable that matters": {
			minimal + "stagedoor: {policy: {entrypoint: a/b, remote: {url: 'http://o', token: '${TOKEN}'}}}",
			[]string{"stagedoor.policy.remote.token: the environment variable TOKEN is not set"},
		},
		"nothing": {minimal + "stagedoor: {}\n", nil},
		"no unit": {
			minimal + "stagedoor: {limits: {decision: 5}, identity: {userInfoTtl: 5}}",
			[]string{"stagedoor.identity.userInfoTtl: ", "stagedoor.limits.decision: "},
		},
		"endpoints": {
			minimal + "discovery: {endpoints: [{target: {external: 'https://x'}, plugins: [a]}, {target: 'ftp://u:s3cret@h', plugins: [b]}, {plugins: [c]}]}",
			[]string{
				`discovery.endpoints[1].target: want an http or https URL, have "ftp://u:xxxxx@h"`,
				"discovery.endpoints[2].target: missing",
			},
		},
		"no base URL": {"stagedoor: {}", []string{"backend.baseUrl: missing"}},
		"not YAML":    {"a: [", []string{""}}, // its own line alone: what is missing may be in it,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load([]string{write(t, "c.yaml", test.text)}, nil, environ())
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a password is told: %v", err)
			}
			lines := strings.Split(strings.TrimPrefix(err.Error(), "configuration: "), "\n  ")
			if len(test.want) > 1 {
				lines = lines[1:]
			}
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

// TestScalarsAsBackstageReadsThem takes texts and numbers for what they spell, as
// ConfigReader of @backstage/config 1.3.11 does.
func TestScalarsAsBackstageReadsThem(t *testing.T) {
	for text, want := range map[string]string{
		"yes": "true", "'ON'": "true", "y": "true", "1": "true", "' true '": "true", "no": "false", "'0'": "false", "Off": "false",
		"2": "", "maybe": "", "''": "", "[true]": "",
	} {
		c, err := load([]string{write(t, "c.yaml", minimal+"stagedoor: {audit: {required: false}}"), write(t, "d.yaml",
			"backend: {auth: {dangerouslyDisableDefaultAuthPolicy: "+text+"}}")}, nil, environ())
		got := ""
		if err == nil {
			got = strconv.FormatBool(c.Identity.DangerouslyDisableDefaultAuthPolicy)
		}
		if got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]int{"60": 60, "'60'": 60, "' 6e1 '": 60, "1.5": -1, "x": -1, "''": -1} {
		c, err := load([]string{write(t, "c.yaml", minimal), write(t, "d.yaml", "backend: {cors: {maxAge: "+text+"}}")}, nil, environ())
		got := -1
		if err == nil {
			got = c.CORS.MaxAge
		}
		if got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

func TestDurationsAsBackstageReadsThem(t *testing.T) {
	const bad = -1
	for text, want := range map[string]time.Duration{
		"5s": 5 * time.Second, "2 minutes": 2 * time.Minute, "' 1.5 SECS '": 1500 * time.Millisecond, "100ms": 100 * time.Millisecond,
		"PT5S": 5 * time.Second, "PT1M30.5S": 90500 * time.Millisecond, "{seconds: 1, milliseconds: '5'}": 1005 * time.Millisecond,
		"0s": 0, "5": bad, "'5'": bad, "1 fortnight": bad, "P1Y": bad, "PT": bad, "P": bad, "-5s": bad, "{}": bad, "{s: 1}": bad,
		"{seconds: x}": bad, "{seconds: -1}": bad, "20m": bad, "P9W": bad, "1e9h": bad, "[5s]": bad, "''": bad,
	} {
		c, err := load([]string{write(t, "c.yaml", minimal), write(t, "d.yaml",
			"backend: {lifecycle: {serverShutdownDelay: "+text+"}}")}, nil, environ())
		got := time.Duration(bad)
		if err == nil {
			got = c.ShutdownDelay
		} else if !strings.Contains(err.Error(), "backend.lifecycle.serverShutdownDelay: ") {
			t.Error(err)
		}
		if got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for text, want := range map[string]string{
		"tls: {certFile: none.pem, keyFile: none.key}":          "stagedoor.tls: certFile and keyFile: open none.pem",
		"tls: {certFile: none.pem}":                             "stagedoor.tls: want certFile and keyFile",
		"admin: {tls: {}}":                                      "stagedoor.admin.tls: want certFile and keyFile",
		"h2c: true, tls: {certFile: none.pem, keyFile: no.key}": "stagedoor.h2c: is for HTTP/2 without TLS",
		"listen: 'unix:'":                                       "stagedoor.listen: want unix: and a path",
		"admin: {token: short}":                                 "stagedoor.admin.token: want 16 characters at least",
		"admin: {token: [0123456789abcdef, short]}":             "stagedoor.admin.token: want 16 characters at least",
		"admin: {token: '0123456789abcdef '}":                   "stagedoor.admin.token: begins or ends with a blank",
		"basePath: /api/../permission":                          "stagedoor.basePath: want a path",
		"basePath: //permission":                                "stagedoor.basePath: want a path",
		"limits: {decision: 1ns}":                               "stagedoor.limits.decision: want 1ms at least, have 1ns",
		"conditions: {timeout: 1ns}":                            "stagedoor.conditions.timeout: want 1ms at least, have 1ns",
		"log: {level: trace}":                                   "stagedoor.log.level: want debug, info, warn or error",
		"log: {level: panic}":                                   "stagedoor.log.level: want debug, info, warn or error",
		"limits: {memory: 1}":                                   "stagedoor.limits.memory: want 1MiB at least",
		"limits: {memory: -1}":                                  "stagedoor.limits.memory: want 1MiB at least",
		"admin: {dataRoots: ['']}":                              `"" is no root: want one such as shop/teams`,
		"admin: {dataRoots: [null]}":                            `stagedoor.admin.dataRoots`,
		"admin: {dataRoots: [a], token: ''}":                    "stagedoor.admin.token: it is empty",
		"admin: {dataRoots: [a], token: ['', '${NONE:-}']}":     "stagedoor.admin.token: it is empty",
		"limits: {connections: 0}":                              "stagedoor.limits.connections: want more than 0",
		"tls: {certfile: x}":                                    "stagedoor.tls.certfile: unknown key; the nearest known one is stagedoor.tls.certFile",
	} {
		_, err := load([]string{write(t, "c.yaml", minimal+"stagedoor: {"+text+"}")}, nil, environ())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "short") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAfterRestart(t *testing.T) {
	read := func(text string) *Config {
		t.Helper()
		c, err := load([]string{write(t, "c.yaml", minimal+text)}, nil, environ())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read("discovery: {endpoints: [{target: 'http://a', plugins: [a]}]}\nstagedoor: {listen: 'h:1', log: {level: info}, limits: {items: 5}}")
	after := read("discovery: {endpoints: []}\nstagedoor: {listen: 'h:2', log: {level: debug}, admin: {token: 0123456789abcdef}, audit: {required: no}}")
	got := before.AfterRestart(after)
	if want := []string{"stagedoor.audit.required", "stagedoor.limits.items", "stagedoor.listen"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := before.AfterRestart(before); len(got) != 0 {
		t.Errorf("unchanged: %v", got)
	}
}

func TestTokens(t *testing.T) {
	for text, want := range map[string][]string{
		"'${NONE:-}'":                          {},
		"0123456789abcdef":                     {"0123456789abcdef"},
		"'0123456789abcdef,0123456789abcdef'":  {"0123456789abcdef,0123456789abcdef"},
		"[fedcba9876543210, 0123456789abcdef]": {"fedcba9876543210", "0123456789abcdef"},
		"[fedcba9876543210, '${NONE:-}']":      {"fedcba9876543210"},
	} {
		c, err := load([]string{write(t, "c.yaml", minimal+"stagedoor: {admin: {token: "+text+"}}")}, nil, environ())
		if err != nil || !slices.Equal(c.AdminTokens, want) {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
}

func TestIncludesEnd(t *testing.T) {
	path := write(t, "loop.yaml", minimal+"stagedoor: {policy: {$include: loop.yaml}}")
	_, err := load([]string{path}, nil, environ())
	if err == nil || !strings.Contains(err.Error(), "files include one another without an end") {
		t.Errorf("error %v", err)
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	_, err := load([]string{write(t, "c.yaml", minimal+"stagedoor: {policy: {remote: {url: 1, token: '${TOKEN}'}}, listen: x}")},
		nil, environ("TOKEN", "very-secret"))
	if err == nil || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("error %v", err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := load([]string{filepath.Join(t.TempDir(), "none.yaml")}, nil, environ())
	if err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("error %v", err)
	}
}
