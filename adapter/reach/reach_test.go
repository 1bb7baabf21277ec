package reach_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/reach"
)

const (
	addNet     = "stagedoor.policy.capabilities.allowNet"
	addBuiltin = "stagedoor.policy.capabilities.allowBuiltins"
)

func TestCheck(t *testing.T) {
	some := reach.Options{AllowNet: []string{"a.example"}, AllowBuiltins: []string{"net.lookup_ip_addr"}}
	tests := map[string]struct {
		options reach.Options
		module  string // after the package
		want    string // "" for nothing; else what the refusal says
	}{
		"nothing":                  {module: "x := input.y"},
		"runtime":                  {module: "x := opa.runtime()", want: "p.rego:3: rego_compile_error: policies may not call opa.runtime"},
		"runtime in a call":        {module: "x := count(opa.runtime())", want: addBuiltin},
		"runtime in brackets":      {module: "x := input[opa.runtime().env.A]", want: addBuiltin},
		"runtime in comprehension": {module: "x := [y | y := opa.runtime()]", want: addBuiltin},
		"runtime in an else":       {module: "x := 1 if false\n\nelse := opa.runtime()", want: "p.rego:5"},
		"runtime as a head":        {module: "x[opa.runtime()] := 1", want: addBuiltin},
		"runtime by with":          {module: "x if y with input as opa.runtime()\n\ny if input", want: addBuiltin},
		"runtime in place of":      {module: "x if f with f as opa.runtime\n\nf() := {}", want: addBuiltin},
		"names":                    {module: `x := net.lookup_ip_addr("a.example")`, want: "net.lookup_ip_addr"},
		"names, allowed":           {options: some, module: `x := net.lookup_ip_addr("a.example")`},
		"addresses":                {module: `x if net.cidr_contains("10.0.0.0/8", input.ip)`},
		"other addresses":          {module: `x := net.cidr_merge(net.cidr_expand("10.0.0.0/30"))`},
		"send":                     {module: `x := http.send({"method": "GET", "url": "http://a.example/x"})`, want: `"a.example"`},
		"send, allowed":            {options: some, module: `x := http.send({"method": "GET", "url": "https://a.example:8443/x"})`},
		"send elsewhere":           {options: some, module: `x := http.send({"method": "GET", "url": "http://b.example"})`, want: `the host "b.example" here; where it should, add it to ` + addNet},
		"send with credentials":    {options: some, module: `x := http.send({"method": "GET", "url": "http://a.example@b.example"})`, want: `"b.example"`},
		"send, computed":           {module: `x := http.send({"method": "GET", "url": input.url})`, want: "may reach no host here; name the hosts"},
		"send, computed, some":     {options: some, module: `x := http.send({"method": "GET", "url": input.url})`},
		"send in place of":         {module: `x if f({}) with f as http.send` + "\n\nf(_) := {}", want: addNet},
		"send to a socket":         {options: some, module: `x := http.send({"method": "GET", "url": "unix://a.example/x?socket=%2Frun%2Fs"})`, want: "sockets"},
		"schema":                   {module: "# METADATA\n# schemas:\n#   - input: {$ref: \"http://b.example/s\"}\nx := input.y", want: `a JSON Schema in METADATA may refer to nothing elsewhere, as $ref does by "http://b.example/s"`},
		"schema within":            {module: "# METADATA\n# schemas:\n#   - input: {properties: {y: {allOf: [{$ref: \"//b.example/s\"}]}}}\nx := input.y", want: "nothing elsewhere"},
		"schema, allowed":          {options: some, module: "# METADATA\n# schemas:\n#   - input: {$ref: \"http://a.example/s\"}\nx := input.y", want: "nothing elsewhere"},
		"schema by allowed base":   {options: some, module: "# METADATA\n# schemas:\n#   - input: {$id: \"http://a.example/s#x\", $ref: \"#/y\"}\nx := input.y", want: "nothing elsewhere"},
		"schema by its own name":   {options: some, module: "# METADATA\n# schemas:\n#   - input: {$id: \"http://b.example/s\", definitions: {y: {type: string}}, properties: {y: {$ref: \"#/definitions/y\"}}}\nx := input.y"},
		"schema of a file":         {options: some, module: "# METADATA\n# schemas:\n#   - input: {$ref: \"file:///etc/passwd\"}\nx := input.y", want: "may not refer to files"},
		"schema by the base":       {module: "# METADATA\n# schemas:\n#   - input: {$id: \"file:///etc/x\", $ref: passwd}\nx := input.y", want: "may not refer to files"},
		"schema of a draft":        {module: "# METADATA\n# schemas:\n#   - input: {$schema: \"http://json-schema.org/draft-07/schema#\", type: object}\nx := input.y"},
		"a rule of that name":      {module: "x := data.opa.runtime"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			module, err := ast.ParseModuleWithOpts("p.rego", "package p\n\n"+test.module+"\n", ast.ParserOptions{ProcessAnnotation: true})
			if err != nil {
				t.Fatal(err)
			}
			err = test.options.Check(module)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err == nil && !strings.Contains(test.module, "data.") {
				compiler := ast.NewCompiler().WithCapabilities(test.options.Capabilities())
				if compiler.Compile(map[string]*ast.Module{"p.rego": module}); compiler.Failed() {
					t.Error(compiler.Errors)
				}
			}
		})
	}
}

// Every builtin of OPA that asks others or tells of the process is kept by name or by
// the hosts that it may reach. A new one has the test fail, for somebody to decide.
func TestBuiltinsThatReach(t *testing.T) {
	all := ast.CapabilitiesForThisVersion().Builtins
	allowed := reach.Options{}.Capabilities().Builtins
	var kept []string
	for _, b := range all {
		if !slices.ContainsFunc(allowed, func(other *ast.Builtin) bool { return other.Name == b.Name }) {
			kept = append(kept, b.Name)
		}
	}
	if want := []string{"net.lookup_ip_addr", "opa.runtime"}; !slices.Equal(slices.Sorted(slices.Values(kept)), want) {
		t.Errorf("kept back are %v, want %v", kept, want)
	}
	var others []string
	for _, b := range allowed {
		if b.IsNondeterministic() || strings.HasPrefix(b.Name, "net.") || strings.Contains(b.Name, "schema") {
			others = append(others, b.Name)
		}
	}
	want := []string{
		"graphql.parse_schema", "graphql.schema_is_valid", "http.send", "io.jwt.decode_verify", "io.jwt.encode_sign",
		"io.jwt.encode_sign_raw", "json.match_schema", "json.verify_schema", "net.cidr_contains", "net.cidr_contains_matches",
		"net.cidr_expand", "net.cidr_intersects", "net.cidr_is_valid", "net.cidr_merge", "net.cidr_overlap", "rand.intn",
		"time.now_ns", "uuid.rfc4122",
	}
	if slices.Sort(others); !slices.Equal(others, want) {
		t.Errorf("allowed are %v, want %v", others, want)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		options reach.Options
		want    string
	}{
		"nothing":   {},
		"good":      {options: reach.Options{AllowNet: []string{"a.example", "10.0.0.1", "localhost"}, AllowBuiltins: []string{"opa.runtime"}}},
		"port":      {options: reach.Options{AllowNet: []string{"a.example:80"}}, want: "without scheme, port and path"},
		"scheme":    {options: reach.Options{AllowNet: []string{"http://a.example"}}, want: "without scheme"},
		"path":      {options: reach.Options{AllowNet: []string{"a.example/x"}}, want: "without scheme"},
		"empty":     {options: reach.Options{AllowNet: []string{""}}, want: addNet},
		"all":       {options: reach.Options{AllowBuiltins: []string{"http.send"}}, want: "every policy may call http.send"},
		"addresses": {options: reach.Options{AllowBuiltins: []string{"net.cidr_merge"}}, want: "leave it out"},
		"unknown":   {options: reach.Options{AllowBuiltins: []string{"net.ping"}}, want: "OPA has no builtin net.ping"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// site is a server that counts who asks, under two names: 127.0.0.1 and localhost.
type site struct {
	URL, other string
	asked      atomic.Int32
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		document := map[string]any{"type": "object"}
		switch r.URL.Path {
		case "/more": // relative, and absolute to the same
			document["definitions"] = map[string]any{"a": map[string]any{"$ref": "less"}}
			document["properties"] = map[string]any{"a": map[string]any{"$ref": s.URL + "/less#"}}
		case "/bad":
			document["properties"] = map[string]any{"a": map[string]any{"$ref": r.URL.Query().Get("ref")}}
			if id := r.URL.Query().Get("id"); id != "" {
				document["$id"] = id
			}
		case "/next":
			document["properties"] = map[string]any{"a": map[string]any{"$ref": fmt.Sprint("next?n=1", s.asked.Load())}}
		case "/endless":
			_, _ = w.Write(bytes.Repeat([]byte(" "), 2<<20))
		case "/none":
			_, _ = w.Write([]byte("null"))
			return
		}
		_ = json.NewEncoder(w).Encode(document)
	}))
	t.Cleanup(server.Close)
	s.URL, s.other = server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return s
}

// evaluate evaluates an expression; nil capabilities are those of a compiler that was
// given none.
func evaluate(t *testing.T, capabilities *ast.Capabilities, expression string, input any) (rego.ResultSet, error) {
	t.Helper()
	reach.Guard()
	compiler := ast.NewCompiler().WithCapabilities(capabilities)
	module := ast.MustParseModule("package p\n\nx := " + expression)
	if compiler.Compile(map[string]*ast.Module{"p.rego": module}); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	return rego.New(rego.Compiler(compiler), rego.Query("data.p.x"), rego.Input(input),
		rego.StrictBuiltinErrors(true)).Eval(t.Context())
}

func TestGuard(t *testing.T) {
	const send = `http.send({"method": "GET", "url": input.url, "enable_redirect": true}).status_code`
	here := []string{"127.0.0.1"}
	secrets := t.TempDir()
	secret := filepath.Join(secrets, "s.json")
	if err := os.WriteFile(secret, []byte(`{"type": "s3cr3t"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(secrets, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		allowed    []string
		none       bool // the compiler has no capabilities
		expression string
		url        func(*site) string
		want       string // what the failure says; empty where it is asked for
		asked      int32
	}{
		"allowed":                        {allowed: here, expression: send, url: func(s *site) string { return s.URL }, asked: 1},
		"none":                           {allowed: []string{}, expression: send, url: func(s *site) string { return s.URL }, want: addNet},
		"no capabilities":                {none: true, expression: send, url: func(s *site) string { return s.URL }, want: addNet},
		"another":                        {allowed: here, expression: send, url: func(s *site) string { return s.other }, want: `the host "localhost"`},
		"quoted":                         {allowed: here, expression: send, url: func(s *site) string { return `"` + s.other + `"` }, want: `"localhost"`},
		"upper case":                     {allowed: here, expression: send, url: func(s *site) string { return strings.ToUpper(s.other) }, want: `"LOCALHOST"`},
		"redirected":                     {allowed: here, expression: send, url: func(s *site) string { return s.URL + "?to=" + url.QueryEscape(s.other) }, want: addNet, asked: 1},
		"redirected here":                {allowed: here, expression: send, url: func(s *site) string { return s.URL + "?to=" + url.QueryEscape(s.URL) }, asked: 2},
		"socket":                         {allowed: []string{"localhost"}, expression: send, url: func(*site) string { return "unix://localhost/x?socket=%2Frun%2Fs" }, want: "sockets"},
		"no error of it":                 {allowed: here, expression: `http.send({"method": "GET", "url": input.url, "raise_error": false})`, url: func(s *site) string { return s.other }, want: addNet},
		"endless file":                   {allowed: here, expression: `http.send({"method": "GET", "url": input.url, "tls_ca_cert_file": "/dev/zero"})`, url: func(s *site) string { return s.URL }, want: "no file of at most"},
		"pipe":                           {allowed: here, expression: `http.send({"method": "GET", "url": input.url, "tls_client_key_file": "` + pipe + `", "tls_client_cert_file": "` + pipe + `"})`, url: func(s *site) string { return s.URL }, want: "no file of at most"},
		"name":                           {allowed: here, expression: `net.lookup_ip_addr(input.url)`, url: func(*site) string { return "localhost" }, want: addNet},
		"schema":                         {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})[0]`, url: func(s *site) string { return s.URL }, asked: 1},
		"schema elsewhere":               {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.other }, want: addNet},
		"schema as text":                 {allowed: here, expression: `json.match_schema({}, json.marshal({"$ref": input.url}))`, url: func(s *site) string { return s.other }, want: addNet},
		"schema, none":                   {none: true, expression: `json.verify_schema({"items": [{"$ref": input.url}]})`, url: func(s *site) string { return s.URL }, want: addNet},
		"schema and what that refers to": {allowed: here, expression: `json.match_schema({"a": 1}, {"$ref": input.url})[0] == false`, url: func(s *site) string { return s.URL + "/more" }, asked: 2},
		"schema, part of another":        {allowed: here, expression: `json.match_schema({}, {"properties": {"a": {"$ref": concat("", [input.url, "#/definitions/a"])}}})[0]`, url: func(s *site) string { return s.URL + "/more" }, asked: 2},
		"schema that refers to a file":   {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "/bad?ref=" + url.QueryEscape("file://"+secret) }, want: "may not refer to files", asked: 1},
		"schema that verifies by a file": {allowed: here, expression: `json.verify_schema({"$ref": input.url})`, url: func(s *site) string { return s.URL + "/bad?ref=" + url.QueryEscape("FILE://"+secret) }, want: "may not refer to files", asked: 1},
		"schema in a file's place": {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string {
			return s.URL + "/bad?id=" + url.QueryEscape("file://"+secrets+"/") + "&ref=s.json"
		}, want: "calls itself otherwise", asked: 1},
		"schema that leads elsewhere": {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "/bad?ref=" + url.QueryEscape(s.other) }, want: addNet, asked: 1},
		"schema redirected elsewhere": {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "?to=" + url.QueryEscape(s.other) }, want: addNet, asked: 1},
		"schema redirected to a file": {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "?to=" + url.QueryEscape("file://"+secret) }, want: addNet, asked: 1},
		"schema without end":          {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "/endless" }, want: "more than 1048576 bytes", asked: 1},
		"schemas without end":         {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "/next?n=1" }, want: "more than 32 others", asked: 32},
		"schema that is none":         {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(s *site) string { return s.URL + "/none" }, want: "no JSON Schema", asked: 1},
		"schema, file":                {allowed: here, expression: `json.match_schema({}, {"$ref": input.url})`, url: func(*site) string { return "file://" + secret }, want: "may not refer to files"},
		"schema, FILE":                {allowed: here, expression: `json.verify_schema({"$ref": input.url})`, url: func(*site) string { return "FILE://" + secret }, want: "may not refer to files"},
		"schema, base":                {allowed: here, expression: `json.match_schema({}, {"$id": input.url, "properties": {"a": {"$ref": "s.json"}}})`, url: func(*site) string { return "file://" + secrets + "/" }, want: "may not refer to files"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			var capabilities *ast.Capabilities
			if !test.none {
				capabilities = reach.Options{AllowNet: test.allowed, AllowBuiltins: []string{"net.lookup_ip_addr"}}.Capabilities()
			}
			results, err := evaluate(t, capabilities, test.expression, map[string]any{"url": test.url(s)})
			switch {
			case test.want == "" && (err != nil || len(results) == 0):
				t.Errorf("got %v and %v", results, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v and %v, want %q", results, err, test.want)
			case err != nil && strings.Contains(err.Error(), "s3cr3t"):
				t.Errorf("a secret in %v", err)
			}
			if got := s.asked.Load(); got != test.asked {
				t.Errorf("asked %d times, want %d", got, test.asked)
			}
		})
	}
}
