package vetted

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// partNames name the parts of the input for the table.
var partNames = map[string]Parts{
	"name": PartName, "type": PartType, "action": PartAction, "resourceType": PartResourceType,
	"anonymous": PartAnonymous, "user": PartUser, "claims": PartClaims, "actor": PartActor,
}

// stateOf is the state of a policy of one module.
func stateOf(t testing.TB, module string) *State {
	t.Helper()
	v, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseModule("p.rego", "package p\n\n"+module, ast.DefaultRegoVersion)
	if err != nil {
		t.Fatal(err)
	}
	c := ast.NewCompiler().WithKeepModules(true)
	if c.Compile(map[string]*ast.Module{"p.rego": parsed}); c.Failed() {
		t.Fatal(c.Errors)
	}
	s, err := v.state(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func namesOf(read Parts) string {
	var names []string
	for name, part := range partNames {
		if read&part != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

const (
	allIdentity   = "actor anonymous claims user"
	allPermission = "action name resourceType type"
	everything    = "action actor anonymous claims name resourceType type user"
)

// TestReads has ways in which policies come by the input. A part that a policy reads
// and the memo does not know of would let one caller have another's answer.
func TestReads(t *testing.T) {
	const entry = "# METADATA\n# entrypoint: true\n"
	for name, test := range map[string]struct{ module, want string }{
		"nothing":              {entry + `allow := true`, ""},
		"one part":             {entry + `allow if input.permission.name == "a"`, "name"},
		"in brackets":          {entry + `allow if input["permission"]["name"] == "a"`, "name"},
		"the action":           {entry + `allow if input.permission.attributes.action == "read"`, "action"},
		"all attributes":       {entry + `allow if input.permission.attributes == {}`, "action"},
		"whether a user":       {entry + `allow if input.identity`, allIdentity},
		"not a user":           {entry + `allow if not input.identity.user`, "anonymous user"},
		"a claim":              {entry + `allow if "group:default/a" in input.identity.claims`, "anonymous claims"},
		"an element":           {entry + `allow if input.identity.claims[0] == "a"`, "anonymous claims"},
		"unknown of identity":  {entry + `allow if not input.identity.email`, "anonymous"},
		"a whole branch":       {entry + `allow if input.permission == {}`, allPermission},
		"the whole":            {entry + `allow if input == {}`, everything},
		"a name for it":        {entry + "allow if {\n\tx := input\n\tx.permission.name == \"a\"\n}", everything},
		"a name for a branch":  {entry + "allow if {\n\tx := input.identity\n\tx.user == \"a\"\n}", allIdentity},
		"a variable step":      {entry + "allow if {\n\tsome x\n\tinput[x].name == \"a\"\n}", everything},
		"a variable member":    {entry + "allow if {\n\tsome x in [\"user\"]\n\tinput.identity[x] == \"a\"\n}", allIdentity},
		"walk":                 {entry + "allow if {\n\twalk(input, [_, v])\n\tv == \"a\"\n}", everything},
		"object.get":           {entry + `allow if object.get(input, ["permission", "name"], "") == "a"`, everything},
		"a step of data":       {entry + `allow if data.p.users[input.identity.user]`, "anonymous user"},
		"a step of input":      {entry + `allow if input.permission[input.identity.actor]`, "action actor anonymous name resourceType type"},
		"in a comprehension":   {entry + `allow if count([c | some c in input.identity.claims]) > 1`, "anonymous claims"},
		"in a head":            {entry + `allow := {"result": "DENY", "reason": input.permission.name}`, "name"},
		"in every":             {entry + "allow if every c in input.identity.claims { c != input.permission.name }", "anonymous claims name"},
		"by another rule":      {entry + "allow if known\n\nknown if input.identity.user", "anonymous user"},
		"by a default":         {entry + "default allow := false\n\nallow if not bad\n\nbad if input.identity.actor", "actor anonymous"},
		"by an else":           {entry + "allow if {\n\tfalse\n} else := true if input.permission.name", "name"},
		"by a rule of an else": {entry + "allow if {\n\tfalse\n} else := true if known\n\nknown if input.identity.user", "anonymous user"},
		"by a rule of the last": {
			entry + "allow if {\n\tfalse\n} else := false if {\n\tfalse\n} else := known\n\nknown := input.identity.user == \"a\"", "anonymous user",
		},
		"by another's else":    {entry + "allow if b\n\nb if {\n\tfalse\n} else if known\n\nknown if input.identity.user", "anonymous user"},
		"by a function":        {entry + "allow if f(1)\n\nf(_) if input.permission.type == \"basic\"", "type"},
		"handed to a function": {entry + "allow if f(input)\n\nf(x) if x.permission.name", everything},
		"by a partial rule":    {entry + "allow if some_set[\"a\"]\n\nsome_set contains input.identity.user", "anonymous user"},
		"by any rule of data": {
			entry + "allow if {\n\tsome x\n\tdata.p.rules[x]\n}\n\nrules.a if input.identity.user\n\nrules.b if input.permission.name", "anonymous name user",
		},
		"under with":     {entry + `allow if known with input.identity.user as "a"` + "\n\nknown if input.identity.user", "anonymous user"},
		"with a value":   {entry + `allow if known with input.x as input.permission.name` + "\n\nknown if input.x", "name"},
		"not reached":    {entry + "allow := true\n\nother if input.identity.user", ""},
		"in a template":  {entry + `allow := $"{input.permission.name}" == "a"`, "name"},
		"what is not in": {entry + `allow if input.nothing`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, test.module+"\n")
			if diff := cmp.Diff(test.want, namesOf(s.reads)); diff != "" {
				t.Errorf("reads: -want +got:\n%s", diff)
			}
			if !s.Deterministic() {
				t.Errorf("not deterministic because of %v", s.Nondeterministic)
			}
		})
	}
}

// TestNondeterministic lists what forbids to remember an answer.
func TestNondeterministic(t *testing.T) {
	for builtin, call := range map[string]string{
		"time.now_ns":            `time.now_ns() > 0`,
		"rand.intn":              `rand.intn("x", 10) > 0`,
		"uuid.rfc4122":           `uuid.rfc4122("x")`,
		"opa.runtime":            `opa.runtime().env.X`,
		"http.send":              `http.send({"method": "GET", "url": "http://127.0.0.1:1"})`,
		"net.lookup_ip_addr":     `net.lookup_ip_addr("localhost")`,
		"json.verify_schema":     `json.verify_schema({"$ref": "http://127.0.0.1:1"})`,
		"json.match_schema":      `json.match_schema({}, {"$ref": "http://127.0.0.1:1"})`,
		"io.jwt.decode_verify":   `io.jwt.decode_verify(input.permission.name, {"secret": "x"})`,
		"io.jwt.encode_sign":     `io.jwt.encode_sign({}, {}, {})`,
		"io.jwt.encode_sign_raw": `io.jwt.encode_sign_raw("", "", "")`,
		"crypto.x509.parse_and_verify_certificates":              `crypto.x509.parse_and_verify_certificates("")[0]`,
		"crypto.x509.parse_and_verify_certificates_with_options": `crypto.x509.parse_and_verify_certificates_with_options("", {})[0]`,
	} {
		for where, module := range map[string]string{
			"in the rule":            "allow if " + call,
			"in a function":          "allow if f(1)\n\nf(_) if " + call,
			"in a head":              "allow := x.y\n\nx := {\"y\": true, \"z\": [v | v := 1; " + call + "]}",
			"in a closure":           "allow if count([1 | " + call + "]) > 0",
			"under not":              "allow if not f(1)\n\nf(_) if " + call,
			"under with":             "allow if f(1) with input.x as 1\n\nf(_) if " + call,
			"in an else":             "allow if {\n\tfalse\n} else if f(1)\n\nf(_) if " + call,
			"as the value of a with": "allow if f(1) with input.x as g(1)\n\nf(_) if input.x\n\ng(_) if " + call,
		} {
			s := stateOf(t, "# METADATA\n# entrypoint: true\n"+module+"\n")
			found := slices.ContainsFunc(s.Nondeterministic, func(source Source) bool {
				return source.Builtin == builtin && strings.Contains(source.Location, "p.rego:")
			})
			if !found {
				t.Errorf("%s %s: %v", builtin, where, s.Nondeterministic)
			}
		}
	}
}

// TestNondeterministicReplacement has functions in whose place a with puts what
// forbids to remember an answer.
func TestNondeterministicReplacement(t *testing.T) {
	for name, test := range map[string]struct{ module, want string }{
		"of the policy": {"allow if f(\"x\", 10) > 4 with f as rand.intn\n\nf(_, _) := 1", "rand.intn"},
		"of a builtin":  {"allow if lower(\"x\") < \"8\" with lower as uuid.rfc4122", "uuid.rfc4122"},
		"of a function": {"allow if g with f as http.send\n\ng if f({\"method\": \"GET\", \"url\": \"http://127.0.0.1:1\"})\n\nf(_) := false", "http.send"},
		"within a rule": {"allow if not g\n\ng if {\n\tevery x in [1] {\n\t\tnot f(x, 10) > 4 with f as rand.intn\n\t}\n}\n\nf(_, _) := 1", "rand.intn"},
	} {
		s := stateOf(t, "# METADATA\n# entrypoint: true\n"+test.module+"\n")
		if len(s.Nondeterministic) != 1 || s.Nondeterministic[0].Builtin != test.want {
			t.Errorf("%s: %v", name, s.Nondeterministic)
		}
	}
}
