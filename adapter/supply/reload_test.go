package supply_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// swaps is how often the policy is exchanged while it is asked.
const swaps = 10_000

// swapPolicy allows those permissions whose bit is set in the data.
const swapPolicy = `package a

# METADATA
# entrypoint: true
default allow := false

allow if data.a.bits[input.permission.name]
`

const swapPermissions = 16

// allowedBy is whether the policy of a revision allows a permission: what an
// answer must be, known without asking anybody.
func allowedBy(revision, permission int) bool {
	return (uint32(revision)*2654435761>>uint32(permission))&1 == 1
}

// swapBundle is the bundle of a revision. Each hundred have another policy than those
// before, and the others have other data alone.
func swapBundle(t testing.TB, revision int) *bundle.Bundle {
	t.Helper()
	text := swapPolicy + fmt.Sprintln("#", revision/100)
	module, err := ast.ParseModuleWithOpts("a.rego", text, ast.ParserOptions{ProcessAnnotation: true})
	fixture.Must(t, err)

	bits := map[string]any{}
	for p := range swapPermissions {
		bits["p"+strconv.Itoa(p)] = allowedBy(revision, p)
	}
	roots := []string{"a"}
	return &bundle.Bundle{
		Manifest: bundle.Manifest{Revision: strconv.Itoa(revision), Roots: &roots},
		Modules:  []bundle.ModuleFile{{Path: "a.rego", URL: "a.rego", Raw: []byte(text), Parsed: module}},
		Data:     map[string]any{"a": map[string]any{"bits": bits}},
	}
}

// TestHotReloadUnderLoad exchanges the policy ten thousand times while it is asked
// without a pause. Every answer is the one of the revision that it names, and of
// none that was exchanged before it was asked for.
func TestHotReloadUnderLoad(t *testing.T) {
	e := fixture.New(t, fixture.Options{Default: fixture.FS(fixture.Allowing("0", "x")), Library: map[string]string{}})
	fixture.Must(t, e.ActivateLocal(t.Context(), swapBundle(t, 0)))
	var newest, answers, remembered atomic.Int64
	var done atomic.Bool
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			permissions := make([]wire.Permission, 4)
			for n := 0; !done.Load() && !t.Failed(); n++ {
				for i := range permissions {
					permissions[i] = fixture.Basic("p" + strconv.Itoa((worker+n+i*3)%swapPermissions))
				}
				least := newest.Load()
				batch, err := e.Engine.Decide(context.Background(), fixture.Ann(), permissions)
				if err != nil {
					t.Error(err)
					return
				}
				if err := explained(batch, permissions, int(least)); err != nil {
					t.Error(err)
					return
				}
				for _, o := range batch.Outcomes {
					answers.Add(1)
					if o.Remembered {
						remembered.Add(1)
					}
				}
				time.Sleep(200 * time.Microsecond) // leave room for the swaps
			}
		})
	}
	for n := 1; n <= swaps; n++ {
		fixture.Must(t, e.ActivateLocal(t.Context(), swapBundle(t, n)))
		newest.Store(int64(n))
	}
	done.Store(true)
	group.Wait()
	t.Logf("%d swaps, %d answers of which %d remembered", swaps, answers.Load(), remembered.Load())
	if answers.Load() < swaps || remembered.Load() == 0 {
		t.Error("too few answers to show anything")
	}
}

// explained reports what is wrong with the answers, or nil.
func explained(b decision.Batch, permissions []wire.Permission, least int) error {
	revision, err := strconv.Atoi(b.Revision)
	if err != nil || revision < least {
		return fmt.Errorf("revision %q answers after %d had taken over", b.Revision, least)
	}
	for i, o := range b.Outcomes {
		p, err := strconv.Atoi(permissions[i].Name[1:])
		if err != nil {
			return err
		}
		if o.Err != nil {
			return fmt.Errorf("revision %d, %s: %w", revision, permissions[i].Name, o.Err)
		}
		if allowed := o.Decision.Result == wire.Allow; allowed != allowedBy(revision, p) {
			return fmt.Errorf("revision %d answers %v to %s", revision, o.Decision.Result, permissions[i].Name)
		}
	}
	return nil
}
