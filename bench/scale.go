package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/policy"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// sized is a policy of some size, generated, and what it is asked.
type sized struct {
	name string
	// write writes the bundle with n of whatever it is that grows.
	write func(dir, root string, n int) error
	sizes []int
	ask   wire.Permission
}

// sizes returns what is measured, for callers with so many groups of those that
// there are.
func sizes() []sized {
	read := wire.Permission{Name: "catalog.entity.refresh", Action: "update", Resource: true, ResourceType: "catalog-entity"}
	return []sized{
		{"bindings of bundles/rbac", writeBindings, []int{1_000, 100_000, 1_000_000}, read},
		{"rules, decision style", writeDecisionRules, []int{50, 5_000}, read},
		{"rules, resource style", writeResourceRules, []int{50, 5_000}, read},
	}
}

// groupsOfCallers are how many groups callers have, a usual one and one with many.
var groupsOfCallers = []int{10, 500}

// rulesAsked is how many rules are about the permission that is asked for and one of
// the first groups, which every caller has.
const rulesAsked = 2

// figures are what one policy costs.
type figures struct {
	Policy string `json:"policy"`
	Size   int    `json:"size"`
	// Activation is from the start of the engine until its policy serves.
	Activation time.Duration `json:"activation_ns"`
	// Heap is what lives after it, and RSS and Peak are the process's, in bytes.
	Heap int64 `json:"heap_bytes"`
	RSS  int64 `json:"rss_bytes"`
	Peak int64 `json:"peak_bytes"`
	// Times are those of decisions, as groupsOfCallers.
	Times []times `json:"times"`
}

// times are the medians of decisions for callers never seen before, and of the same
// again.
type times struct {
	Miss time.Duration `json:"miss_p50_ns"`
	Hit  time.Duration `json:"hit_p50_ns"`
}

// scale measures generated policies, each in a process of its own, in turns.
func scale(ctx context.Context, b *bench) error {
	m := newMachine(ctx, b)
	rows := map[string][]figures{}
	var order []string
	for range b.rounds {
		for at, s := range sizes() {
			for _, n := range s.sizes {
				progress("%d %s", n, s.name)
				text, err := output(ctx, b.root, b.self, "policy", b.root, strconv.Itoa(at), strconv.Itoa(n))
				if err != nil {
					return err
				}
				var f figures
				if err := json.Unmarshal([]byte(text), &f); err != nil {
					return err
				}
				name := fmt.Sprintf("%d %s", n, s.name)
				if rows[name] == nil {
					order = append(order, name)
				}
				rows[name] = append(rows[name], f)
			}
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s Median of %d processes each; callers with %d and with %d groups.\n\n"+
		"| policy | activation ms | heap MB | RSS MB | peak MB | miss µs | hit µs | miss µs, many groups | hit µs, many groups |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
		m, b.rounds, groupsOfCallers[0], groupsOfCallers[1])
	for _, name := range order {
		of := func(field func(figures) float64) string {
			var all []float64
			for _, f := range rows[name] {
				all = append(all, field(f))
			}
			return figure(median(all))
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name,
			of(func(f figures) float64 { return f.Activation.Seconds() * 1e3 }),
			of(func(f figures) float64 { return float64(f.Heap) / 1e6 }),
			of(func(f figures) float64 { return float64(f.RSS) / 1e6 }),
			of(func(f figures) float64 { return float64(f.Peak) / 1e6 }),
			of(func(f figures) float64 { return f.Times[0].Miss.Seconds() * 1e6 }),
			of(func(f figures) float64 { return f.Times[0].Hit.Seconds() * 1e6 }),
			of(func(f figures) float64 { return f.Times[1].Miss.Seconds() * 1e6 }),
			of(func(f figures) float64 { return f.Times[1].Hit.Seconds() * 1e6 }))
	}
	return b.publish("scale", text.String(), map[string]any{"machine": m, "policies": rows})
}

// measurePolicy is the process that measures one policy and prints its figures as
// JSON. Args are the repository, the index of the policy, and its size.
func measurePolicy(ctx context.Context, args []string) error {
	at, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s := sizes()[at]
	dir, err := os.MkdirTemp("", "stagedoor-bench-policy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := s.write(dir, args[0], n); err != nil {
		return err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	begin := time.Now()
	engine, err := policy.New(ctx, policy.Options{Path: dir, Library: rego.Modules(), Log: logrus.NewEntry(log)})
	if err != nil {
		return err
	}
	defer engine.Close(ctx)
	f := figures{Policy: s.name, Size: n, Activation: time.Since(begin)}
	used, err := use(os.Getpid())
	if err != nil {
		return err
	}
	f.Peak = used.Peak
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	f.Heap = int64(memory.HeapAlloc)
	if used, err = use(os.Getpid()); err != nil {
		return err
	}
	f.RSS = used.RSS
	for _, groups := range groupsOfCallers {
		t, err := decisionTimes(ctx, engine, s.ask, n, groups)
		if err != nil {
			return err
		}
		f.Times = append(f.Times, t)
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// decisionTimes asks for callers with so many of all the groups.
func decisionTimes(ctx context.Context, engine *policy.Engine, ask wire.Permission, all, groups int) (t times, err error) {
	const callers = 400
	random := rand.New(rand.NewPCG(1, uint64(groups)))
	asking := make([]policy.Caller, callers)
	for i := range asking {
		user := fmt.Sprintf("user:default/user-%d-%d", groups, i)
		claims := []string{user}
		for g := range groups {
			if g >= rulesAsked {
				g = random.IntN(all)
			}
			claims = append(claims, groupRef(g))
		}
		asking[i] = policy.Caller{User: user, Claims: claims, Actor: askingPlugin}
	}
	median := func() (time.Duration, error) {
		var took []time.Duration
		for _, caller := range asking {
			begin := time.Now()
			batch, err := engine.Decide(ctx, caller, []wire.Permission{ask})
			took = append(took, time.Since(begin))
			if err != nil {
				return 0, err
			}
			if o := batch.Outcomes[0]; o.Err != nil || o.Decision.Result != wire.Conditional {
				return 0, fmt.Errorf("the policy answers %v: %w", o.Decision.Result, o.Err)
			}
		}
		const warm = callers / 10
		slices.Sort(took[warm:])
		return took[warm+(callers-warm)/2], nil
	}
	if t.Miss, err = median(); err != nil {
		return t, err
	}
	t.Hit, err = median()
	return t, err
}

func groupRef(n int) string { return fmt.Sprintf("group:default/g-%d", n) }

// writeBindings writes bundles/rbac with n groups bound, to the roles that it has.
func writeBindings(dir, root string, n int) error {
	from := filepath.Join(root, "bundles", "rbac")
	for _, name := range []string{".manifest", "policy.rego"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	text, err := os.ReadFile(filepath.Join(from, "data.json"))
	if err != nil {
		return err
	}
	var data struct {
		RBAC map[string]any `json:"rbac"`
	}
	if err := json.Unmarshal(text, &data); err != nil {
		return err
	}
	bindings := map[string][]string{}
	for i := range n {
		bindings[groupRef(i)] = []string{"developer"}
	}
	data.RBAC["bindings"] = bindings
	if text, err = json.Marshal(data); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "data.json"), text, 0o600)
}

// writeDecisionRules writes a decision-style policy with n rules, each about one
// permission and one group; OPA indexes them by the permission.
func writeDecisionRules(dir, _ string, n int) error {
	return writeRules(dir, n, `package backstage.authz

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {
	"result": "CONDITIONAL",
	"pluginId": "catalog",
	"resourceType": "catalog-entity",
	"conditions": {"anyOf": [condition | some condition in conditions]},
} if count(conditions) > 0
`, `
conditions contains {"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": %[2]q}} if {
	input.permission.name == %[1]q
	%[3]q in input.identity.claims
}
`)
}

// writeResourceRules writes the same about the resource.
func writeResourceRules(dir, _ string, n int) error {
	return writeRules(dir, n, `package backstage.authz

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false
`, `
allow if {
	input.permission.name == %[1]q
	%[3]q in input.identity.claims
	catalog.has_label(input.resource, {"label": %[2]q})
}
`)
}

// writeRules writes head and n rules, of which rulesAsked hold for every caller, and
// the others are about other permissions.
func writeRules(dir string, n int, head, rule string) (err error) {
	if err := os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"roots": ["backstage/authz"]}`), 0o600); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "policy.rego"))
	if err != nil {
		return err
	}
	defer func() { err = closed(file, err) }()
	w := bufio.NewWriter(file)
	fmt.Fprint(w, head)
	for i := range n {
		name := "catalog.entity.refresh"
		if i >= rulesAsked {
			name = fmt.Sprintf("catalog.entity.refresh.%d", i)
		}
		fmt.Fprintf(w, rule, name, fmt.Sprintf("label-%d", i), groupRef(i))
	}
	return w.Flush()
}

func closed(file fs.File, err error) error {
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}
