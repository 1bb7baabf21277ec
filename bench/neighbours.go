//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// measured is what one target did in one round.
type measured struct {
	Requests    int           `json:"requests"`
	Throughput  float64       `json:"requests_per_second"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
	CPU         time.Duration `json:"cpu_ns_per_request"`
	Allocations float64       `json:"allocations_per_request"`
	RSS         int64         `json:"rss_bytes"`
	// Calls is how often plugins were asked for a request, by a target that does.
	Calls float64 `json:"plugin_calls_per_request"`
}

// series is what one target did in all rounds of a case.
type series struct {
	Target string     `json:"target"`
	Rounds []measured `json:"rounds"`
}

// outcome is one case: a scenario with so many users over so many connections.
type outcome struct {
	Scenario    string   `json:"scenario"`
	Users       int      `json:"users"`
	Connections int      `json:"connections"`
	Series      []series `json:"series"`
}

// neighbours measures stagedoor beside everything else, or beside another commit.
func neighbours(ctx context.Context, b *bench) error {
	all, policies, err := chosen(b.scenarios)
	if err != nil {
		return err
	}
	binaries, err := b.binaries(ctx)
	if err != nil {
		return err
	}
	backstage, err := b.startBackstage()
	if err != nil {
		return err
	}
	r := newReport(ctx, b)
	err = b.contests(ctx, r, all, policies, binaries, backstage)
	return errors.Join(r.write(), err) // what was measured before a failure is worth something too
}

// contests fills the report, policy by policy.
func (b *bench) contests(
	ctx context.Context, r *report, all []scenario, policies []string, binaries map[string]string, backstage string,
) error {
	for _, policy := range policies {
		begin := len(b.stop)
		targets, err := b.startTargets(ctx, binaries, backstage, policy)
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.policy != policy {
				continue
			}
			for _, users := range b.usersFor(s) {
				for _, connections := range b.connections {
					one := &contest{bench: b, scenario: s, targets: targets, backstage: backstage, users: users, connections: connections}
					o, err := one.run(ctx)
					if err != nil {
						return err
					}
					r.Outcomes = append(r.Outcomes, o)
				}
			}
		}
		b.unwind(begin)
	}
	return nil
}

// usersFor are the numbers of users that a scenario is measured with: all that were
// chosen where what is remembered of each counts, else the middle one.
func (b *bench) usersFor(s scenario) []int {
	if s.everyUser {
		return b.users
	}
	return b.users[len(b.users)/2:][:1]
}

// binaries builds what is measured, by the name of its target.
func (b *bench) binaries(ctx context.Context) (map[string]string, error) {
	built := map[string]string{}
	var err error
	if built[nameStagedoor], err = b.build(ctx, b.root, "stagedoor", "./cmd/stagedoor"); err != nil {
		return nil, err
	}
	if b.compare == "" {
		built[nameOPA], err = b.build(ctx, b.root, "opa", "github.com/open-policy-agent/opa")
		return built, err
	}
	built[b.compared()], err = b.buildCompared(ctx)
	return built, err
}

// compared is the name of the target that -compare names.
func (b *bench) compared() string { return nameStagedoor + " " + b.compare }

// buildCompared builds that target.
func (b *bench) buildCompared(ctx context.Context) (string, error) {
	tree := b.dir + "/worktree"
	if _, err := output(ctx, b.root, "git", "worktree", "add", "--detach", tree, b.compare); err != nil {
		return "", err
	}
	b.later(func() {
		_, _ = output(context.WithoutCancel(ctx), b.root, "git", "worktree", "remove", "--force", tree)
	})
	return b.build(ctx, tree, "stagedoor-compared", "./cmd/stagedoor")
}

// startTargets starts everything that is measured with a policy, stagedoor first.
func (b *bench) startTargets(ctx context.Context, binaries map[string]string, backstage, policy string) ([]*target, error) {
	dir := b.root + "/bench/" + policy
	own, err := b.startStagedoor(ctx, nameStagedoor, binaries[nameStagedoor], backstage, dir)
	if err != nil {
		return nil, err
	}
	floor, err := b.startFloor()
	if err != nil {
		return nil, err
	}
	targets := []*target{own, floor}
	if b.compare != "" {
		name := b.compared()
		other, err := b.startStagedoor(ctx, name, binaries[name], backstage, dir)
		return append(targets, other), err
	}
	opa, err := b.startOPA(ctx, binaries[nameOPA], dir)
	if err != nil {
		return nil, err
	}
	reference, err := b.startReference(backstage, opa)
	if err != nil {
		return nil, err
	}
	targets = append(targets, opa)
	if reference != nil {
		targets = append(targets, reference)
	}
	return targets, nil
}

// contest is one case to be measured.
type contest struct {
	*bench
	scenario           scenario
	targets            []*target
	backstage          string
	users, connections int
	// pace is how many requests a second are sent; 0 for as many as are answered.
	pace float64

	sessions []string
	fastest  float64 // requests a second that any target managed so far
}

func (c *contest) run(ctx context.Context) (outcome, error) {
	o := outcome{Scenario: c.scenario.name, Users: c.users, Connections: c.connections}
	progress("%s, %d users, %d connections", o.Scenario, o.Users, o.Connections)
	var err error
	if c.sessions, err = c.keys.sessions(c.users); err != nil {
		return o, err
	}
	// One that was never asked before may take long once.
	loaded, err := c.load(ctx)
	if err != nil {
		return o, err
	}
	for _, l := range loaded {
		o.Series = append(o.Series, series{Target: l.target.name})
	}
	for round := range c.rounds {
		tokens, err := c.keys.pool(c.sessions, c.need())
		if err != nil {
			return o, err
		}
		for i := range loaded {
			at := (round + i) % len(loaded) // nobody is always first
			m, err := c.measure(ctx, loaded[at], tokens, round == 0)
			if err != nil {
				failed := loaded[at].target
				return o, fmt.Errorf("%s, %s: %w\n%s", failed.name, o.Scenario, err, failed.process.tail())
			}
			o.Series[at].Rounds = append(o.Series[at].Rounds, m)
			c.fastest = max(c.fastest, m.Throughput)
		}
	}
	return o, nil
}

// need is how many tokens a round takes at most, as far as one can know; it is over
// sooner where that is wrong.
func (c *contest) need() int {
	const atFirst, margin = 25_000, 1.3 // requests a second, and how much faster a round may be than the last
	perSecond := atFirst / float64(min(len(c.scenario.items), 2))
	if c.pace > 0 {
		perSecond = margin * c.pace
	} else if c.fastest > 0 {
		perSecond = margin * c.fastest
	}
	return c.warmUps() + int(perSecond*c.round.Seconds()) + c.connections
}

// warmUps is how many requests a target may get before a slice: enough that user
// info, which it forgets in seconds, is known again.
func (c *contest) warmUps() int { return max(c.users, 4*c.connections) }

// loaded is a target and what it is asked.
type loaded struct {
	target   *target
	messages []message
	inspect  func(answer) error
}

// load prepares the targets that can be asked, and looks at their answers.
func (c *contest) load(ctx context.Context) ([]loaded, error) {
	const probes = 20
	tokens, err := c.keys.pool(c.sessions, probes)
	if err != nil {
		return nil, err
	}
	var all []loaded
	for _, t := range c.targets {
		if !t.answers(c.scenario) {
			continue
		}
		l := loaded{target: t}
		if l.messages, err = t.messages(c.scenario, c.users, c.gzip); err != nil {
			return nil, err
		}
		before, err := c.calls(ctx)
		if err != nil {
			return nil, err
		}
		size, err := t.probe(ctx, c.scenario, ammunition{messages: l.messages, pool: tokens, to: probes})
		if err != nil {
			return nil, err
		}
		if !c.gzip { // compressed, answers to different users differ
			l.inspect = length(size)
		}
		after, err := c.calls(ctx)
		if err != nil {
			return nil, err
		}
		if t.name == nameStagedoor && after-before != probes*c.scenario.calls {
			return nil, fmt.Errorf("%s: stagedoor called plugins %d times for %d requests", c.scenario.name, after-before, probes)
		}
		all = append(all, l)
	}
	return all, nil
}

// calls is how often plugins were asked to apply conditions so far.
func (c *contest) calls(ctx context.Context) (n int64, err error) {
	text, err := get(ctx, c.backstage+"/calls")
	if err == nil {
		_, err = fmt.Sscan(text, &n)
	}
	return n, err
}

// measure gives one target its slice of a round. At first all users are new to it,
// and may be many: it has a minute for them to come once. That is enough for all but
// the reference, which remembers of a user what it forgets in seconds.
func (c *contest) measure(ctx context.Context, l loaded, tokens pool, first bool) (measured, error) {
	gun, err := dial(l.target.address, c.connections)
	if err != nil {
		return measured{}, err
	}
	defer gun.close()
	patience := c.round
	if first {
		patience = time.Minute
	}
	warm := ammunition{messages: l.messages, pool: tokens, to: c.warmUps(), inspect: l.inspect}
	came, err := gun.fire(ctx, warm, patience)
	if err != nil {
		return measured{}, err
	}
	if first && l.target.name != nameReference && len(came.latencies) < warm.to {
		return measured{}, fmt.Errorf("of %d requests to warm up, %d were answered in %s", warm.to, len(came.latencies), patience)
	}
	before, err := c.gauge(ctx, l.target)
	if err != nil {
		return measured{}, err
	}
	live := ammunition{messages: l.messages, pool: tokens, from: warm.to, to: len(tokens.tokens), inspect: l.inspect}
	var shots slice
	if c.pace > 0 {
		shots, err = gun.firePaced(ctx, live, c.round, c.pace)
	} else {
		shots, err = gun.fire(ctx, live, c.round)
	}
	if err != nil {
		return measured{}, err
	}
	after, err := c.gauge(ctx, l.target)
	if err != nil {
		return measured{}, err
	}
	n := len(shots.latencies)
	return measured{
		Requests: n, Throughput: shots.throughput(), P50: shots.percentile(50), P99: shots.percentile(99),
		CPU:         (after.CPU - before.CPU) / time.Duration(n),
		Allocations: (after.mallocs - before.mallocs) / float64(n), RSS: after.RSS,
		Calls: float64(after.calls-before.calls) / float64(n),
	}, nil
}

// gauge is what is read from outside a target.
type gauge struct {
	usage
	mallocs float64
	calls   int64
}

func (c *contest) gauge(ctx context.Context, t *target) (g gauge, err error) {
	if g.calls, err = c.calls(ctx); err != nil {
		return g, err
	}
	if g.mallocs, err = t.allocated(ctx); err != nil {
		return g, err
	}
	g.usage, err = t.use()
	return g, err
}

// median of what a field of all rounds is.
func (s series) median(field func(measured) float64) float64 {
	var all []float64
	for _, m := range s.Rounds {
		all = append(all, field(m))
	}
	return median(all)
}

// ratio is the median of the ratios of a to b, each within one round.
func ratio(a, b series, field func(measured) float64) float64 {
	var all []float64
	for i := range a.Rounds {
		all = append(all, field(a.Rounds[i])/field(b.Rounds[i]))
	}
	return median(all)
}

func median(all []float64) float64 {
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// named returns the series of a target, if it is there.
func (o outcome) named(prefix string) (series, bool) {
	at := slices.IndexFunc(o.Series, func(s series) bool { return strings.HasPrefix(s.Target, prefix) })
	if at < 0 {
		return series{}, false
	}
	return o.Series[at], true
}
