package simulation

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

var (
	seed      = flag.Uint64("seed", 1, "the seed of the first schedule; each next one has the next seed")
	schedules = flag.Int("schedules", 200, "how many schedules")
)

// How long what is known may count, and calls may last.
const (
	userInfoTTL = 5 * time.Second
	keysMaxAge  = 10 * time.Minute
	requestTime = 15 * time.Second
	pluginTime  = 2 * time.Second
	// fetchTime is how long a question about a user or a key set lasts at most, with the
	// pause after a failure.
	fetchTime = 8 * time.Second
	// breakerTime is how long a plugin is left alone after a failure at most, with the
	// calls before and after it.
	breakerTime = 10 * time.Second
)

// tallies count what came of all schedules, so that nothing is shown by too little.
type tallies struct {
	schedules, asked, answered, refused, failed, allowed, remembered, applied, activations atomic.Int64
}

// TestSchedules runs schedules from the seed on.
func TestSchedules(t *testing.T) {
	p, err := newPool()
	if err != nil {
		t.Fatal(err)
	}
	good := moduleOf(t, source)
	// Nothing is annotated as the entrypoint, so it must not serve.
	odd := moduleOf(t, "package p\n\nimport rego.v1\n\ndecision := {\"result\": \"ALLOW\"} if input.permission.name\n")
	var counted tallies
	var next, bad atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(*schedules) && bad.Load() < 3; n = next.Add(1) - 1 {
				s := *seed + uint64(n)
				var wrong []string
				synctest.Test(t, func(t *testing.T) { wrong = simulate(t, draw(s, p), p, good, odd, &counted) })
				if len(wrong) > 0 {
					bad.Add(1)
					t.Errorf("seed %d (go test ./simulation -run TestSchedules -seed %d -schedules 1):\n%s", s, s, strings.Join(wrong, "\n"))
				}
				counted.schedules.Add(1)
			}
		})
	}
	workers.Wait()
	t.Logf("%d schedules, %d activations, %d requests: %d answered (%d items allowed, %d remembered, %d applied), %d refused, %d failed; %d schedules wrong",
		counted.schedules.Load(), counted.activations.Load(), counted.asked.Load(), counted.answered.Load(), counted.allowed.Load(),
		counted.remembered.Load(), counted.applied.Load(), counted.refused.Load(), counted.failed.Load(), bad.Load())
	if *schedules >= 100 && bad.Load() == 0 {
		for what, n := range map[string]int64{
			"answered": counted.answered.Load(), "refused": counted.refused.Load(), "failed": counted.failed.Load(),
			"allowed": counted.allowed.Load(), "remembered": counted.remembered.Load(), "applied": counted.applied.Load(),
		} {
			if n < int64(*schedules)/2 {
				t.Errorf("only %d %s: too few to show anything", n, what)
			}
		}
	}
}

// simulate runs one schedule in a bubble, and returns what was wrong.
func simulate(t *testing.T, w *world, p *pool, good, odd module, counted *tallies) []string {
	t.Helper()
	places, err := discovery.New(discovery.Options{BaseURL: "http://b"})
	if err != nil {
		t.Fatal(err)
	}
	who, err := identity.New(identity.Options{Transport: w, Bare: w.seed%16 != 0}, places, silent())
	if err != nil {
		t.Fatal(err)
	}
	defer who.Close()
	asker, err := conditions.New(conditions.Options{Transport: w, Timeout: pluginTime}, places,
		func(_ context.Context, id string) (string, error) { return who.ServiceToken(id) }, silent())
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	d := newDecider(t)
	defer d.engine.Close()

	var all sync.WaitGroup
	var mutex sync.Mutex
	var wrong []string
	say := func(format string, args ...any) {
		mutex.Lock()
		defer mutex.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	all.Go(func() {
		for _, a := range w.activates {
			time.Sleep(a.at - time.Since(epoch))
			b := bundleOf(a.revision, good)
			if a.broken {
				b = bundleOf(a.revision, odd)
			}
			from := time.Since(epoch)
			err := d.activate(t.Context(), b)
			counted.activations.Add(1)
			if (err != nil) != a.broken {
				say("activating revision %d, broken %t: %v", a.revision, a.broken, err)
			}
			if err == nil {
				w.mutex.Lock()
				w.served = append(w.served, serving{a.revision, span{from, time.Since(epoch)}})
				w.mutex.Unlock()
			}
		}
	})
	for _, a := range w.asks {
		all.Go(func() {
			time.Sleep(a.at - time.Since(epoch))
			got := put(t.Context(), a, p, who, d, asker)
			got.from, got.to = a.at, time.Since(epoch)
			counted.asked.Add(1)
			if why := w.judge(got, counted); why != "" {
				say("%+v, from %v to %v: %s", a, got.from, got.to, why)
			}
		})
	}
	all.Wait()
	return wrong
}

// got is what came of a request.
type got struct {
	ask
	span
	refused bool // 401
	err     error
	batch   decision.Batch
	applied *conditions.Outcome
}

// put asks as the authorize handler does.
func put(ctx context.Context, a ask, p *pool, who *identity.Identity, d *decider, asker *conditions.Client) (g got) {
	g.ask = a
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	caller, err := who.Authenticate(ctx, "Bearer "+p.tokens[tokenOf(a.user, a.userKey, a.expires, a.through)])
	if err != nil {
		g.err = err
		e, ok := errors.AsType[*wire.Error](err)
		g.refused = ok && e.Status == 401
		return g
	}
	refs, _, err := who.UserInfo(ctx, caller)
	if err != nil {
		g.err = err
		return g
	}
	asked := []wire.Permission{}
	for name := range names {
		asked = append(asked, wire.Permission{Name: permissionOf(name)})
	}
	for revision := range revisions {
		asked = append(asked, wire.Permission{Name: revisionOf(revision)})
	}
	asked = append(asked, wire.Permission{Name: "todo", Resource: true, ResourceType: "todo-item"})
	g.batch, g.err = d.engine.Decide(ctx, decision.Caller{User: caller.User, Claims: refs}, asked)
	if g.err != nil || len(a.refs) == 0 {
		return g
	}
	question := conditions.Question{Decision: g.batch.Outcomes[len(asked)-1].Decision}
	for _, ref := range a.refs {
		question.Refs = append(question.Refs, fmt.Sprint("r", ref))
	}
	outcome := asker.Apply(ctx, conditions.Caller{
		Subject: caller.Fingerprint(), Party: fair.Party{User: caller.User},
		Token: func(_ context.Context, id string) (string, error) { return who.ServiceToken(id) },
	}, []conditions.Question{question})[0]
	g.applied = &outcome
	return g
}

// judge holds what came of a request to what was true. It returns why it is wrong.
func (w *world) judge(g got, counted *tallies) string {
	if why := w.judgeToken(g); why != "" {
		return why
	}
	switch {
	case g.refused:
		counted.refused.Add(1)
		return ""
	case g.err != nil:
		counted.failed.Add(1)
		if !wasFaulty(w.auth, g.from-fetchTime, g.to) && !wasFaulty(w.todo, g.from-fetchTime, g.to) {
			return fmt.Sprintf("failed, and no neighbour was at fault: %v", g.err)
		}
		return ""
	}
	counted.answered.Add(1)
	if why := w.judgeDecisions(g, counted); why != "" || g.applied == nil {
		return why
	}
	return w.judgeApplied(g, counted)
}

// judgeToken reports whether somebody was let in who must not be, or the other way.
func (w *world) judgeToken(g got) string {
	expired := epoch.Add(lifetimesOf[g.expires])
	user := w.userKeys[g.userKey]
	withdrawn := user.to < g.from-keysMaxAge-fetchTime || user.from > g.to
	there := user.from < g.from-2*slowest && user.to > g.to
	sound := !wasFaulty(w.auth, g.from-keysMaxAge-fetchTime, g.to)
	if g.through >= 0 {
		plugin := w.pluginKeys[g.through]
		withdrawn = withdrawn || plugin.to < g.from-keysMaxAge-fetchTime || plugin.from > g.to
		there = there && plugin.from < g.from-2*slowest && plugin.to > g.to
		sound = sound && !wasFaulty(w.todo, g.from-keysMaxAge-fetchTime, g.to)
	}
	began := epoch.Add(g.from)
	switch {
	case !g.refused && g.err == nil && (withdrawn || !began.Before(expired)):
		return fmt.Sprintf("let in, with a key that was withdrawn (%t) or a token that has expired at %v", withdrawn, expired.Sub(epoch))
	case g.refused && there && sound && epoch.Add(g.to).Before(expired):
		return fmt.Sprintf("turned away with a good token: %v", errors.Unwrap(g.err))
	}
	return ""
}

// judgeDecisions holds the decisions to the revisions that served and the groups that
// were, within the request and as long before as user info counts.
func (w *world) judgeDecisions(g got, counted *tallies) string {
	named := -1
	for n := range revisions {
		o := g.batch.Outcomes[names+n]
		if o.Err != nil {
			return fmt.Sprintf("no decision: %v", o.Err)
		}
		if o.Remembered {
			counted.remembered.Add(1)
		}
		if o.Decision.Result != wire.Allow {
			continue
		}
		if named >= 0 {
			return fmt.Sprintf("decided by revisions %d and %d at once", named, n)
		}
		named = n
	}
	if named < 0 || g.batch.Revision != revisionOf(named) {
		return fmt.Sprintf("decided by revision %d, and says that it was %s", named, g.batch.Revision)
	}
	if !w.mayServe(named, g.span) {
		return fmt.Sprintf("decided by revision %d, which did not serve then", named)
	}
	could := between(w.groups[g.user], span{g.from - userInfoTTL, g.to})
	for bits := range could {
		if fits(g, named, bits) {
			for _, o := range g.batch.Outcomes[:names] {
				if o.Decision.Result == wire.Allow {
					counted.allowed.Add(1)
				}
			}
			return ""
		}
	}
	return fmt.Sprintf("decided by revision %d for none of the sets of groups %v in which the user was", named, could)
}

// fits reports whether the decisions are those of a revision for a set of groups.
func fits(g got, revision, bits int) bool {
	for name, o := range g.batch.Outcomes[:names] {
		want := wire.Deny
		for group := range groups {
			if bits&(1<<group) != 0 && grants(revision, name, group) {
				want = wire.Allow
			}
		}
		if o.Err != nil || o.Decision.Result != want {
			return false
		}
	}
	return true
}

// mayServe reports whether a revision served at some moment of a span.
func (w *world) mayServe(revision int, s span) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for n, one := range w.served {
		to := 2 * length
		if n+1 < len(w.served) {
			to = w.served[n+1].to
		}
		if one.revision == revision && (span{one.from, to}).meets(s.from, s.to) {
			return true
		}
	}
	return false
}

// judgeApplied holds what the plugin was heard to say to what it may have said.
func (w *world) judgeApplied(g got, counted *tallies) string {
	if g.applied.Err != nil {
		counted.failed.Add(1)
		if !wasFaulty(w.todo, g.from-breakerTime, g.to) {
			return fmt.Sprintf("not applied, and the plugin was not at fault: %v", g.applied.Err)
		}
		return ""
	}
	counted.applied.Add(1)
	for n, ref := range g.refs {
		owners := between(w.owners[ref], span{g.from - pluginTime - slowest, g.to})
		mine, others := owners[g.user], len(owners) > 1 || !owners[g.user]
		if allowed := g.applied.Results[n] == wire.Allow; allowed && !mine || !allowed && !others {
			return fmt.Sprintf("r%d is %v, and its owners were %v", ref, g.applied.Results[n], owners)
		}
	}
	return ""
}
