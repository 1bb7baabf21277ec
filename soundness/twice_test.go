package soundness

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/tests"
)

var (
	twiceTrials = flag.Int("twice", 300, "how many evaluations of tests to decide twice at least")
	planted     = flag.Bool("planted", false, "build the product with a fault each, which takes minutes")
)

// TestTwice draws policies, and writes for each the tests that an author would: a caller, a resource, and the entrypoint.
// `stagedoor test` decides each evaluation as Rego and as production does. Where a policy can fail in one of the two alone,
// it is left out: it asks whether there is a resource, it has two values for a rule, or it has a rule of another plugin.
func TestTwice(t *testing.T) {
	var policies, left, refused, trials, impossible, failed int
	for i := uint64(1); trials < *twiceTrials; i++ {
		tr := newTrial(rand.New(rand.NewPCG(*seed, i)))
		if tr.policy.failing || tr.policy.foreign || tr.policy.existence {
			left++
			continue
		}
		report, err := testTwice(t, &tr, &failed)
		if _, is := errors.AsType[*offline.RefusedError](err); is && tr.policy.refusable {
			refused++
			continue
		}
		if err != nil {
			t.Fatalf("seed %d, policy %d: %v\n%v", *seed, i, err, tr)
		}
		policies++
		for _, test := range report.Tests {
			trials += test.Twice
			for _, f := range test.Findings {
				if f.Code != tests.CodeInput {
					t.Fatalf("seed %d, policy %d, %s: %s\n%v", *seed, i, test.Name, f.Text, tr)
				}
				impossible++
			}
		}
	}
	t.Logf("%d policies, %d evaluations decided twice; %d inputs that no Backstage sends, and %d for which production fails; "+
		"%d policies refused, %d left out", policies, trials, impossible, failed, refused, left)
	if policies == 0 || impossible > trials || failed > policies {
		t.Error("too little is decided twice to show anything")
	}
}

// testTwice runs the tests of a trial: one for each caller, with all resources. A caller for whom production fails, as
// with params that a rule refuses, is counted and left out: an author is told of it, and Rego does not fail.
func testTwice(t *testing.T, tr *trial, failed *int) (*tests.Report, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range strings.Split("\n"+tr.policy.source, "\npackage ")[1:] {
		write(fmt.Sprintf("policy_%d.rego", i), "package "+text)
	}
	var roots []string
	for root := range tr.world.data {
		roots = append(roots, root)
	}
	manifest, err := json.Marshal(map[string]any{"roots": append(roots, "authz", "authz_test")})
	if err != nil {
		t.Fatal(err)
	}
	write(".manifest", string(manifest))
	write("data.json", compact(tr.world.data))
	fails, err := failing(t, dir, tr.world.inputs)
	if err != nil {
		return nil, err
	}
	var all strings.Builder
	all.WriteString("package authz_test\n")
	for i, input := range tr.world.inputs {
		if fails[i] {
			*failed++
			continue
		}
		fmt.Fprintf(&all, "\ntest_%d if {\n", i)
		for _, resource := range tr.world.resources {
			asked := maps.Clone(input)
			asked["resource"] = resource
			// It passes whatever the answer is.
			fmt.Fprintf(&all, "\tcount([a | a := data.authz.allow with input as %s]) < 2\n", compact(asked))
		}
		all.WriteString("}\n")
	}
	write("policy_test.rego", all.String())
	p, err := offline.Open(t.Context(), dir, offline.Options{Entrypoint: "authz/allow"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close(t.Context()) }()
	return tests.Run(t.Context(), p, tests.Options{})
}

// failing is for which inputs the decision fails, or a branch of it.
func failing(t *testing.T, dir string, inputs []map[string]any) ([]bool, error) {
	t.Helper()
	p, err := offline.Open(t.Context(), dir, offline.Options{Entrypoint: "authz/allow"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close(t.Context()) }()
	fails := make([]bool, len(inputs))
	for i, input := range inputs {
		outcome, err := p.DecideDocument(t.Context(), input)
		if err != nil {
			return nil, err
		}
		fails[i] = outcome.Err != nil || len(outcome.Excluded) > 0
	}
	return fails, nil
}

// plants are faults, each in one line of the product: in either of the two ways of deciding a test.
var plants = map[string]struct{ file, from, to string }{
	"production applies conditions turned round": {
		"adapter/offline/stock.go", "return holds && failed == nil, failed", "return !holds && failed == nil, failed",
	},
	"production loses a negation": {"adapter/explore/prove.go", "\t\tholds = holds.Not()\n", "\t\t_ = holds.Not()\n"},
	"production decides for nobody": {
		"adapter/tests/judge.go", "p.DecideDocument(ctx, j.inputs.complete(input))",
		"p.DecideDocument(ctx, map[string]any{\"permission\": j.inputs.complete(input)[\"permission\"]})",
	},
	"Rego sees no resource": {
		"adapter/tests/judge.go", "p.Evaluate(ctx, path, input)",
		"p.Evaluate(ctx, path, map[string]any{\"permission\": input[\"permission\"], \"identity\": input[\"identity\"]})",
	},
	"Rego sees no claims": {
		"adapter/tests/judge.go", "p.Evaluate(ctx, path, input)",
		"p.Evaluate(ctx, path, map[string]any{\"permission\": input[\"permission\"], \"resource\": input[\"resource\"]})",
	},
}

// TestPlanted wants TestTwice to notice each planted fault.
func TestPlanted(t *testing.T) {
	for name, plant := range plants {
		path, err := filepath.Abs(filepath.Join("..", plant.file))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), plant.from) != 1 {
			t.Errorf("%s: %s has %q not once", name, plant.file, plant.from)
			continue
		}
		if !*planted { // what is built takes long, and where it goes is held all the same
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name string, b []byte) string {
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
			faulty := strings.Replace(string(text), plant.from, plant.to, 1)
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: write("planted.go", []byte(faulty))}})
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", write("overlay.json", overlay), "-count=1",
				"-run", "^TestTwice$", ".").CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("--- FAIL: TestTwice")) || !bytes.Contains(out, []byte("in production, ")) {
				t.Errorf("not noticed: %v\n%.2000s", err, out)
			}
		})
	}
}
