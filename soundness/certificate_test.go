package soundness

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/certificate"
	serving "github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	library "github.com/stagedoor/stagedoor/rego"
)

var (
	certified      = flag.Int("certified", 12, "how many random policies to certify beside the ready ones")
	certifyClasses = flag.Int("certify-classes", 0, "about how many classes of callers of a ready bundle to certify; all for 0")
	certifyInto    = flag.String("certify-into", "", "write what is checked into this folder, and check nothing")
)

// readyBundles are those that people are given. The one of --dev stands on the default one.
var readyBundles = []string{"default", "ownership", "rbac", "regulated", "wrapper"}

// TestCertificates certifies the decisions of the ready bundles, for each stock permission and class of callers, and
// decisions of random policies. Then stock OPA checks them (tools/certify).
func TestCertificates(t *testing.T) {
	dir := *certifyInto
	if dir == "" {
		dir = t.TempDir()
	}
	library := libraryBundle(t, dir)
	for _, name := range readyBundles {
		bundle := filepath.Join("..", "bundles", name)
		confirmed(t, dir, name, certifyAll(t, bundle), library, bundle)
	}
	var random []*certificate.Certificate
	bundles := []string{library}
	for i := 1; len(bundles) <= *certified; i++ {
		if bundle, found := certifyTrial(t, dir, i); len(found) > 0 {
			random, bundles = append(random, found...), append(bundles, bundle)
		}
	}
	confirmed(t, dir, "random", random, bundles...)
	if *certifyInto == "" {
		t.Run("forged", func(t *testing.T) {
			for _, c := range random {
				if len(c.Branches) > 3 {
					forge(t, dir, c, bundles)
					return
				}
			}
			t.Error("no certificate has four branches")
		})
	}
}

// confirmed writes certificates and has them checked.
func confirmed(t *testing.T, dir, name string, certificates []*certificate.Certificate, bundles ...string) {
	t.Helper()
	var text bytes.Buffer
	for _, c := range certificates {
		if err := json.NewEncoder(&text).Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, name+".jsonl")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if *certifyInto != "" {
		return
	}
	out, err := checkCertificates(t, file, bundles)
	if err != nil {
		t.Errorf("%s: %v\n%.4000s", name, err, out)
	}
	t.Logf("%s: %s", name, out)
}

// certifyAll certifies each stock permission for each class of callers that the policy can tell apart.
func certifyAll(t *testing.T, bundle string) []*certificate.Certificate {
	t.Helper()
	p, err := offline.Open(t.Context(), bundle, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	who, err := audience.Of(t.Context(), audience.Sources{Inventory: inventory.Stock()}, p)
	if err != nil {
		t.Fatal(err)
	}
	certifier, err := certificate.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var all []*certificate.Certificate
	for _, permission := range inventory.Stock().Permissions {
		for i, class := range who.List {
			if *certifyClasses > 0 && i%max(1, len(who.List) / *certifyClasses) != 0 {
				continue
			}
			q := offline.Question{Caller: class.Example, Permission: offline.Permission(permission)}
			c, err := certifier.Certify(t.Context(), q)
			if err != nil && *certifyInto == "" {
				t.Errorf("%s, %s: %v", bundle, class.Name, err)
			}
			if err == nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// certifyTrial certifies what is asked of a random policy. It returns nothing where the policy is refused, or no
// decision of it can be certified: where it fails by some answers.
func certifyTrial(t *testing.T, dir string, number int) (string, []*certificate.Certificate) {
	t.Helper()
	tr := newTrial(rand.New(rand.NewPCG(*seed, uint64(number))))
	name := fmt.Sprintf("p%d", number)
	paths := regexp.MustCompile(`\b(data\.|package )(authz|grants|roles|members|owners|names|many|flags)\b`)
	bundle := filepath.Join(dir, name)
	writeFiles(t, bundle, map[string]string{
		".manifest": fmt.Sprintf(`{"roots": [%q]}`, name),
		"data.json": compact(map[string]any{name: tr.world.data}),
	})
	for i, text := range strings.Split("\n"+tr.policy.source, "\npackage ")[1:] {
		source := paths.ReplaceAllString("package "+text, "${1}"+name+".${2}")
		writeFiles(t, bundle, map[string]string{fmt.Sprintf("policy_%d.rego", i): source})
	}
	p, err := offline.Open(t.Context(), bundle, offline.Options{Entrypoint: name + "/authz/allow"})
	if err != nil {
		return bundle, nil
	}
	defer func() { _ = p.Close(t.Context()) }()
	certifier, err := certificate.New(p)
	if err != nil {
		return bundle, nil
	}
	var all []*certificate.Certificate
	for _, input := range tr.world.inputs {
		questions, err := offline.ReadQuestions([]byte(compact(input)), nil, inventory.Stock())
		if err != nil {
			t.Fatal(err)
		}
		if c, err := certifier.Certify(t.Context(), questions[0]); err == nil {
			all = append(all, c)
		}
	}
	return bundle, all
}

// libraryBundle writes the rule library as a bundle.
func libraryBundle(t *testing.T, dir string) string {
	t.Helper()
	bundle := filepath.Join(dir, "library")
	writeFiles(t, bundle, map[string]string{".manifest": library.Manifest()})
	writeFiles(t, bundle, library.Modules())
	return bundle
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// checkCertificates runs tools/certify, a program of its own, over the opa of go.mod.
func checkCertificates(t *testing.T, file string, bundles []string) (string, error) {
	t.Helper()
	opa, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "opa").Output()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", ".", "-opa", strings.TrimSpace(string(opa)), file}, absolute(t, bundles)...)
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = filepath.Join("..", "tools", "certify")
	out, err := command.CombinedOutput()
	return string(out), err
}

func absolute(t *testing.T, paths []string) []string {
	t.Helper()
	all := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if all[i], err = filepath.Abs(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// forge changes a certificate in each way that could deceive, of which the checker must refuse every one.
func forge(t *testing.T, dir string, right *certificate.Certificate, bundles []string) {
	t.Helper()
	n := len(right.Branches)
	type change = func([]certificate.Branch) []certificate.Branch
	for name, forged := range map[string]change{
		"a decision turned":  func(b []certificate.Branch) []certificate.Branch { return b },
		"a branch dropped":   func(b []certificate.Branch) []certificate.Branch { return b[1:] },
		"a branch twice":     func(b []certificate.Branch) []certificate.Branch { return append(b, b[0]) },
		"an answer left out": func(b []certificate.Branch) []certificate.Branch { b[n-1].Answers = nil; return b[n-1:] },
		"an outcome turned": func(b []certificate.Branch) []certificate.Branch {
			b[0].Outcome = []byte(map[bool]string{true: "false", false: "true"}[string(b[0].Outcome) == "true"])
			return b
		},
		"an outcome left out":   func(b []certificate.Branch) []certificate.Branch { b[0].Outcome, b[1].Outcome = nil, nil; return b },
		"no rule of the policy": func(b []certificate.Branch) []certificate.Branch { b[0].Answers[0].Function = "data.x"; return b },
	} {
		t.Run(name, func(t *testing.T) {
			var own []certificate.Branch
			if err := json.Unmarshal([]byte(compact(right.Branches)), &own); err != nil {
				t.Fatal(err)
			}
			wrong := *right
			if wrong.Branches = forged(own); name == "a decision turned" {
				wrong.Decision = wire.Decision{Result: wire.Allow}
			}
			file := filepath.Join(dir, "forged.json")
			if err := os.WriteFile(file, []byte(compact(wrong)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := checkCertificates(t, file, bundles); err == nil {
				t.Errorf("confirmed: %s", out)
			}
		})
	}
}

// forgedPolicy is one of which a certificate has branches, an outcome that allows without a
// resource, and a rule beside the entrypoint that allows more.
const forgedPolicy = `package forged

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if {
	input.permission.name == "catalog.entity.delete"
	not catalog.has_label(input.resource, {"label": "frozen"})
	not catalog.is_entity_kind(input.resource, {"kinds": ["System"]})
}

allow if {
	input.permission.name == "catalog.entity.create"
	not frozen
}

frozen if catalog.has_label(input.resource, {"label": "frozen"})
`

// TestForgedCertificates changes what a certificate says beside its branches. The checker refuses every one.
func TestForgedCertificates(t *testing.T) {
	dir := t.TempDir()
	bundles := []string{libraryBundle(t, dir), filepath.Join(dir, "forged")}
	writeFiles(t, bundles[1], map[string]string{".manifest": `{"roots": ["forged"]}`, "policy.rego": forgedPolicy})
	p, err := offline.Open(t.Context(), bundles[1], offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	certifier, err := certificate.New(p)
	if err != nil {
		t.Fatal(err)
	}
	deletes, err := offline.FindPermission(inventory.Stock(), "catalog.entity.delete")
	if err != nil {
		t.Fatal(err)
	}
	who, err := audience.Of(t.Context(), audience.Sources{Inventory: inventory.Stock()}, p)
	if err != nil {
		t.Fatal(err)
	}
	anybody := who.List[0].Example
	c, err := certifier.Certify(t.Context(), offline.Question{Caller: anybody, Permission: deletes})
	if err != nil {
		t.Fatal(err)
	}
	right := compact(c)
	confirmed(t, dir, "right", []*certificate.Certificate{c}, bundles...)
	creates, err := offline.FindPermission(inventory.Stock(), "catalog.entity.create")
	if err != nil {
		t.Fatal(err)
	}
	basic, err := certifier.Certify(t.Context(), offline.Question{Caller: anybody, Permission: creates})
	if err != nil {
		t.Fatal(err)
	}
	confirmed(t, dir, "basic", []*certificate.Certificate{basic}, bundles...)
	type object = map[string]any
	of := func(o object, names ...string) object {
		for _, name := range names {
			o, _ = o[name].(object)
		}
		return o
	}
	leaf := func(label string) object {
		return object{"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": object{"label": label}}
	}
	forgeries := map[string]func(object){
		"about another type": func(o object) { of(o, "decision")["resourceType"] = "scaffolder-task" },
		"of another plugin":  func(o object) { of(o, "decision")["pluginId"] = "scaffolder" },
		"never, elsewhere": func(o object) {
			of(o, "decision")["pluginId"] = "todo"
			of(o, "decision")["conditions"] = object{"anyOf": []any{}}
		},
		"a rule and a list": func(o object) { of(o, "decision", "conditions")["anyOf"] = []any{} },
		"a rule that is more": func(o object) {
			l := leaf("frozen")
			l["allOf"] = []any{}
			of(o, "decision")["conditions"] = object{"allOf": []any{object{"not": l}, object{"not": object{
				"rule": "IS_ENTITY_KIND", "resourceType": "catalog-entity", "params": object{"kinds": []any{"System"}}}}}}
		},
		"or by a rule about another type": func(o object) {
			other := leaf("x")
			other["resourceType"] = "scaffolder-task"
			of(o, "decision")["conditions"] = object{"anyOf": []any{of(o, "decision")["conditions"], other}}
		},
		"without the resource": func(o object) {
			delete(of(o, "input"), "resource")
			o["decision"], o["branches"] = object{"result": "ALLOW"}, []any{object{"answers": []any{}, "outcome": true}}
		},
		"another resource": func(o object) {
			of(o, "input")["resource"] = nil
			o["decision"], o["branches"] = object{"result": "ALLOW"}, []any{object{"answers": []any{}, "outcome": true}}
		},
	}
	var text strings.Builder
	names := slices.Sorted(maps.Keys(forgeries))
	for _, name := range names {
		var o object
		if err := json.Unmarshal([]byte(right), &o); err != nil {
			t.Fatal(err)
		}
		forgeries[name](o)
		text.WriteString(compact(o) + "\n")
	}
	// Without a resource this is allowed, and what serves denies it: by one answer it would not be.
	for _, forged := range []string{"no resource supposed", "allowed where none is supposed"} {
		var o object
		if err := json.Unmarshal([]byte(compact(basic)), &o); err != nil {
			t.Fatal(err)
		}
		o["decision"] = object{"result": "ALLOW"}
		if forged == "no resource supposed" {
			delete(o, "supposed")
		}
		names = append(names, forged)
		text.WriteString(compact(o) + "\n")
	}
	file := filepath.Join(dir, "forged.jsonl")
	writeFiles(t, dir, map[string]string{"forged.jsonl": text.String()})
	out, _ := checkCertificates(t, file, bundles)
	for i, name := range names {
		if !strings.Contains("\n"+out, fmt.Sprintf("\n%d: ", i)) {
			t.Errorf("%s is confirmed", name)
		}
	}
	t.Log(out)
	// Of two decisions readers take the one or the other.
	writeFiles(t, dir, map[string]string{"forged.jsonl": `{"decision":{"result":"ALLOW"},` +
		strings.Replace(right[1:], `"decision":`, `"Decision":`, 1)})
	if out, err := checkCertificates(t, file, bundles); err == nil {
		t.Errorf("two decisions: %s", out)
	}
}

// TestCertificatesOfOtherPolicies holds right certificates to another policy than theirs.
func TestCertificatesOfOtherPolicies(t *testing.T) {
	dir := t.TempDir()
	library := libraryBundle(t, dir)
	policies := map[string]map[string]string{
		"own":     {".manifest": `{"roots": ["forged"]}`, "policy.rego": forgedPolicy},
		"named":   {".manifest": `{"roots": ["forged"], "revision": "v1"}`, "policy.rego": forgedPolicy},
		"by time": {".manifest": `{"roots": ["forged"]}`, "policy.rego": forgedPolicy + "\nallow if time.now_ns() < 0\n"},
	}
	for name, files := range policies {
		writeFiles(t, filepath.Join(dir, name), files)
	}
	deletes, err := offline.FindPermission(inventory.Stock(), "catalog.entity.delete")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ of, entrypoint, checked, want string }{
		{of: "own", checked: "own", want: "1 decisions of 3 branches confirmed, of forged/allow\nno manifest names a revision"},
		{of: "named", checked: "named", want: "1 decisions of 3 branches confirmed, of forged/allow\n"},
		{of: "own", entrypoint: "forged/frozen", checked: "own", want: "refused: it is of forged/frozen, and the policy decides by forged/allow"},
		{of: "own", checked: "by time", want: "refused: the policy can answer otherwise at another time: it calls time.now_ns"},
		{of: "own", checked: "named", want: "and the policy is v1"},
	} {
		p, err := offline.Open(t.Context(), filepath.Join(dir, test.of), offline.Options{Entrypoint: test.entrypoint})
		if err != nil {
			t.Fatal(err)
		}
		certifier, err := certificate.New(p)
		if err != nil {
			t.Fatal(err)
		}
		c, err := certifier.Certify(t.Context(), offline.Question{Caller: serving.Caller{User: "user:default/ann"}, Permission: deletes})
		if err != nil {
			t.Fatal(err)
		}
		writeFiles(t, dir, map[string]string{"c.json": compact(c)})
		out, err := checkCertificates(t, filepath.Join(dir, "c.json"), []string{library, filepath.Join(dir, test.checked)})
		if !strings.Contains(out, test.want) || (err != nil) != strings.Contains(test.want, "the policy") {
			t.Errorf("%s, checked against %s: %v, %s", test.of, test.checked, err, out)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
