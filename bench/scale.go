//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
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

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
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

// someGroups is how many there are at least.
const someGroups = 1000

// rulesAsked is how many rules are about the permission that is asked for and one of
// the first groups, which every caller has.
const rulesAsked = 2

// footprint is what one policy costs before it is asked anything.
type footprint struct {
	// Activation is from the start of the engine until its policy serves.
	Activation time.Duration `json:"activation_ns"`
	// Heap is what lives after it, and RSS and Peak are the process's, in bytes.
	Heap int64 `json:"heap_bytes"`
	RSS  int64 `json:"rss_bytes"`
	Peak int64 `json:"peak_bytes"`
}

// times are the medians of decisions for callers never seen before, and of the same
// again.
type times struct {
	Miss time.Duration `json:"miss_p50_ns"`
	Hit  time.Duration `json:"hit_p50_ns"`
}

// grown is one policy in one size.
type grown struct {
	Policy string `json:"policy"`
	Size   int    `json:"size"`
	footprint
	// Turns are its times, for each of groupsOfCallers.
	Turns [][]times `json:"turns"`

	process *process
}

// scale measures generated policies, each in a process of its own. Those that
// differ in size only are there at once and take turns, so that whatever else the
// machine does befalls all of them.
func scale(ctx context.Context, b *bench) error {
	m := newMachine(ctx, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s Medians of %d turns of %d callers, with %d and with %d groups; × is the median of the ratios "+
		"to the smallest size.\n\n"+
		"| policy | activation ms | heap MB | RSS MB | peak MB | groups | miss µs | × | hit µs | × |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
		m, b.rounds, callersOfTurn, groupsOfCallers[0], groupsOfCallers[1])
	all := map[string][]*grown{}
	for at, s := range sizes() {
		before := len(b.stop)
		sizes, err := b.takeTurns(at, s)
		if err != nil {
			return err
		}
		b.unwind(before)
		for _, g := range sizes {
			g.rows(&text, sizes[0])
		}
		all[s.name] = sizes
	}
	return b.publish("scale", text.String(), map[string]any{"machine": m, "policies": all})
}

// takeTurns starts a policy in all its sizes and asks each in turn.
func (b *bench) takeTurns(at int, s sized) ([]*grown, error) {
	var all []*grown
	for _, n := range s.sizes {
		progress("%d %s", n, s.name)
		g := &grown{Policy: s.name, Size: n, Turns: make([][]times, len(groupsOfCallers))}
		var err error
		if g.process, err = b.start(fmt.Sprintf("policy-%d-%d", at, n), b.self, "policy", b.root, strconv.Itoa(at), strconv.Itoa(n)); err != nil {
			return nil, err
		}
		if err := g.process.answer(&g.footprint); err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	for range b.rounds {
		for i, groups := range groupsOfCallers {
			for _, g := range all {
				var t times
				if _, err := fmt.Fprintln(g.process.in, groups); err != nil {
					return nil, err
				}
				if err := g.process.answer(&t); err != nil {
					return nil, err
				}
				g.Turns[i] = append(g.Turns[i], t)
			}
		}
	}
	return all, nil
}

// answer reads the next line that a process prints, which is JSON.
func (p *process) answer(v any) error {
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.tail())
	}
	return json.Unmarshal(line, v)
}

// rows writes one for each of groupsOfCallers.
func (g *grown) rows(w io.Writer, smallest *grown) {
	for i, groups := range groupsOfCallers {
		of := func(field func(times) time.Duration) (micros, ratio float64) {
			var all, ratios []float64
			for turn, t := range g.Turns[i] {
				all = append(all, field(t).Seconds()*1e6)
				ratios = append(ratios, field(t).Seconds()/field(smallest.Turns[i][turn]).Seconds())
			}
			return median(all), median(ratios)
		}
		miss, missRatio := of(func(t times) time.Duration { return t.Miss })
		hit, hitRatio := of(func(t times) time.Duration { return t.Hit })
		fmt.Fprintf(w, "| %d %s | %s | %s | %s | %s | %d | %s | %s | %s | %s |\n", g.Size, g.Policy,
			figure(g.Activation.Seconds()*1e3), figure(float64(g.Heap)/1e6), figure(float64(g.RSS)/1e6), figure(float64(g.Peak)/1e6),
			groups, figure(miss), figure(missRatio), figure(hit), figure(hitRatio))
	}
}

// measurePolicy is the process that measures one policy. Args are the repository,
// the index of the policy, and its size. It prints the footprint, and then for each
// line that it reads, a number of groups, the times for callers with so many, all as
// JSON.
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
	decides, f, err := activate(ctx, s, args[0], n)
	if err != nil {
		return err
	}
	defer decides.Close()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(f); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for turn := 0; lines.Scan(); turn++ {
		groups, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		t, err := decisionTimes(ctx, decides, s.ask, callers(turn, n, groups))
		if err != nil {
			return err
		}
		if err := out.Encode(t); err != nil {
			return err
		}
	}
	return lines.Err()
}

// activate starts an engine with the policy in size n.
func activate(ctx context.Context, s sized, root string, n int) (*engine.Engine, footprint, error) {
	var f footprint
	dir, err := os.MkdirTemp("", "stagedoor-bench-policy-")
	if err != nil {
		return nil, f, err
	}
	defer os.RemoveAll(dir)
	if err := s.write(dir, root, n); err != nil {
		return nil, f, err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	begin := time.Now()
	vetter, err := vetted.New(vetted.Options{Library: rego.Modules()})
	if err != nil {
		return nil, f, err
	}
	policies := supply.New(supply.Options{Path: dir}, vetter, logrus.NewEntry(log))
	if _, err := policies.Load(ctx); err != nil {
		return nil, f, err
	}
	decides, err := engine.New(engine.Options{}, policies.Serving, logrus.NewEntry(log))
	if err != nil {
		return nil, f, err
	}
	f.Activation = time.Since(begin)
	before, err := use(os.Getpid())
	debug.FreeOSMemory()
	after, err2 := use(os.Getpid())
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	f.Peak, f.RSS, f.Heap = before.Peak, after.RSS, int64(memory.HeapAlloc)
	return decides, f, errors.Join(err, err2)
}

// callersOfTurn is how many callers are asked about in one turn: so few that those
// of all turns have room in the memo.
const callersOfTurn = 100

// callers are those of one turn, with so many of all the groups.
func callers(turn, all, groups int) []decision.Caller {
	random := rand.New(rand.NewPCG(uint64(turn), uint64(groups)))
	asking := make([]decision.Caller, callersOfTurn)
	for i := range asking {
		user := fmt.Sprintf("user:default/user-%d-%d", turn, i)
		claims := []string{user}
		for g := range distinct(random, max(all, someGroups), groups) {
			claims = append(claims, groupRef(g))
		}
		asking[i] = decision.Caller{User: user, Claims: claims, Actor: askingPlugin}
	}
	return asking
}

// decisionTimes asks for every caller, and once more.
func decisionTimes(ctx context.Context, decides *engine.Engine, ask wire.Permission, asking []decision.Caller) (t times, err error) {
	median := func() (time.Duration, error) {
		var took []time.Duration
		for _, caller := range asking {
			begin := time.Now()
			batch, err := decides.Decide(ctx, caller, []wire.Permission{ask})
			took = append(took, time.Since(begin))
			if err != nil {
				return 0, err
			}
			if o := batch.Outcomes[0]; o.Err != nil || o.Decision.Result != wire.Conditional {
				return 0, fmt.Errorf("the policy answers %v: %w", o.Decision.Result, o.Err)
			}
		}
		slices.Sort(took)
		return took[len(took)/2], nil
	}
	if t.Miss, err = median(); err != nil {
		return t, err
	}
	t.Hit, err = median()
	return t, err
}

// distinct yields the first rulesAsked of all numbers and others at random, so many
// together, none twice.
func distinct(random *rand.Rand, all, count int) iter.Seq[int] {
	return func(yield func(int) bool) {
		seen := make(map[int]bool, count)
		for n := 0; len(seen) < min(count, all); n = random.IntN(all) {
			if len(seen) < rulesAsked {
				n = len(seen)
			}
			if seen[n] {
				continue
			}
			seen[n] = true
			if !yield(n) {
				return
			}
		}
	}
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
	var data map[string]map[string]any
	if err := json.Unmarshal(text, &data); err != nil {
		return err
	}
	bindings := map[string][]string{}
	for i := range n {
		bindings[groupRef(i)] = []string{"developer"}
	}
	data["rbac_members"]["bindings"] = bindings
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
