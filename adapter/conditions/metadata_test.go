package conditions

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions/rules"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func readTestdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decision(pluginID, resourceType string, c criteria.Criteria) wire.Decision {
	return wire.Decision{Result: wire.Conditional, PluginID: pluginID, ResourceType: resourceType, Conditions: c}
}

func TestCheckAgainstPublishedRules(t *testing.T) {
	set, err := rules.Read([]byte(readTestdata(t, "metadata.json")))
	if err != nil {
		t.Fatal(err)
	}
	odd := `rule "ODD" of resource type "thing": paramsSchema: `
	if len(set.Problems) != 1 || !strings.HasPrefix(set.Problems[0].Error(), odd) {
		t.Errorf("problems: %v", set.Problems)
	}
	c := newClient(t, Options{}, "http://127.0.0.1:1")
	p := c.plugin("todo")
	p.published.rules.Store(&known{rules: set})
	p.published.fetched.set(time.Now().Add(time.Hour))
	p.published.tried.set(time.Now().Add(time.Hour))
	for line := range strings.Lines(readTestdata(t, "checks.txt")) {
		question, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		parts := strings.Split(question, " ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !ok || len(parts) != 3 {
			t.Fatalf("checks.txt: %s", line)
		}
		// What counts is the decision's resource type, as in the plugin.
		resourceType, rule := parts[0], leaf("whatever", parts[1], parts[2])
		good := leaf("whatever", "IS_PAINTED", "")
		if resourceType != "wall" {
			good = leaf("whatever", "IS_NEW", "")
		}
		if resourceType == "door" {
			good = rule
		}
		for _, c0 := range []criteria.Criteria{
			rule, not(rule),
			{Op: criteria.AllOf, Of: []criteria.Criteria{good, {Op: criteria.AnyOf, Of: []criteria.Criteria{good, not(rule)}}}},
		} {
			for range 2 { // from the memo too
				got := "ok"
				if err := c.Check(decision("todo", resourceType, c0)); err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("%s: %q, want %q", question, got, want)
				}
			}
		}
	}
	long := `{"refs":"` + strings.Repeat("x", 1<<20) + `","` + strings.Repeat("y", 1<<20) + `":0}`
	if err := c.Check(decision("todo", "thing", leaf("thing", "ONE_OF", long))); err == nil || len(err.Error()) > 1000 {
		t.Error("long params make a long error, or none")
	}
	for _, d := range []wire.Decision{{}, {Result: wire.Allow, PluginID: "todo", Conditions: leaf("thing", "NONE", "")}} {
		if err := c.Check(d); err != nil {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

var (
	goodThing = decision("todo", "thing", leaf("thing", "IS_NEW", ""))
	badThing  = decision("todo", "thing", leaf("thing", "IS_OLD", ""))
)

func TestMetadataIsFetchedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{metadata: readTestdata(t, "metadata.json")}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		check := func(want bool, fetches int) {
			t.Helper()
			start := time.Now()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if err := c.Check(goodThing); err != nil {
						t.Error(err)
					}
					if err := c.Check(badThing); (err == nil) != want {
						t.Errorf("error %v", err)
					}
				})
			}
			all.Wait()
			if time.Since(start) != 0 {
				t.Error("Check waits")
			}
			synctest.Wait()
			if n := len(p.callsOf("todo")); n != fetches {
				t.Errorf("%d fetches, want %d", n, fetches)
			}
		}
		p.fault = slow
		check(true, 1)
		check(true, 1) // one fetch at a time
		time.Sleep(time.Second)
		synctest.Wait()
		check(false, 1)
		p.fault = nil
		time.Sleep(againAfter)
		check(false, 1) // "no older than" is not older
		time.Sleep(time.Nanosecond)
		check(false, 2) // a refusal has it fetched anew
		if call := p.callsOf("todo")[0]; !call.get || call.token != "Bearer service-for-todo" {
			t.Errorf("fetched by %+v", call)
		}
		// An upgraded plugin is noticed.
		p.metadata = strings.ReplaceAll(p.metadata, "IS_NEW", "IS_OLD")
		time.Sleep(againAfter + 1)
		if err := c.Check(badThing); err == nil {
			t.Error("no error before the fetch")
		}
		synctest.Wait()
		if err := c.Check(badThing); err != nil {
			t.Error(err)
		}
	})
}

func TestMetadataGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{metadata: readTestdata(t, "metadata.json")}
		c, _, logged, stop := serveMemory(t, p, Options{})
		defer stop()
		check := func(fetches int) {
			t.Helper()
			if err := c.Check(goodThing); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if n := len(p.callsOf("todo")); n != fetches {
				t.Errorf("%d fetches, want %d", n, fetches)
			}
		}
		check(1)
		time.Sleep(freshFor)
		check(1)
		time.Sleep(time.Nanosecond)
		check(2)
		// What is known stays known while the plugin fails, which is said once.
		p.fault = status2(500)
		time.Sleep(freshFor + 1)
		for i := range 5 {
			check(3 + i)
			check(3 + i)
			if err := c.Check(badThing); err == nil {
				t.Error("forgotten")
			}
			time.Sleep(againAfter + 1)
		}
		warnings := strings.Count(logged.String(), `"level":"warning"`)
		if want := 1 + 1; warnings != want { // and one for rule ODD, which stayed as it was
			t.Errorf("%d warnings, want %d:\n%s", warnings, want, logged)
		}
	})
}

// Metadata that is fetched again as it was leaves the rules, and what is remembered of
// them, where they are.
func TestMetadataThatStaysIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{metadata: readTestdata(t, "metadata.json")}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		published := func() *known {
			t.Helper()
			time.Sleep(freshFor + 1)
			_ = c.Check(goodThing)
			synctest.Wait()
			if time.Now().Add(-1).After(time.Unix(0, c.plugin("todo").published.fetched.nanos.Load())) {
				t.Error("not fetched")
			}
			for range 2 {
				if c.Check(goodThing) != nil || c.Check(badThing) == nil {
					t.Error("checked wrong")
				}
			}
			return c.plugin("todo").published.rules.Load()
		}
		first := published()
		if published() != first {
			t.Error("the same metadata makes new rules")
		}
		// Rules that are gone are in no memo any more.
		for fetches := range 50 {
			p.metadata += " "
			if published() == first {
				t.Fatal("other metadata is not taken")
			}
			if n := c.metadata.memo.Len(); n != 2 {
				t.Errorf("after %d fetches, %d decisions are remembered; want 2", fetches, n)
			}
		}
	})
}

func status2(code int) func(http.ResponseWriter, *http.Request, string, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
		respond(w, code, "")
		return true
	}
}

func TestMetadataFaults(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, string, int) bool{
		"404": status2(404),
		"401": status2(401),
		"html": func(w http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
			respond(w, 200, "<html>")
			return true
		},
		"huge": func(w http.ResponseWriter, _ *http.Request, _ string, _ int) bool {
			respond(w, 200, `{"rules":[]`+strings.Repeat(" ", maxAnswer)+`}`)
			return true
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request, _ string, _ int) bool { <-r.Context().Done(); return true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakePlugin{metadata: readTestdata(t, "metadata.json"), fault: fault}
				c, _, _, stop := serveMemory(t, p, Options{})
				defer stop()
				for i := range 5 {
					if err := c.Check(badThing); err != nil {
						t.Error(err)
					}
					synctest.Wait()
					time.Sleep(c.timeout) // for the fetch that gets no answer
					if n := len(p.callsOf("todo")); n != i+1 {
						t.Errorf("%d fetches, want %d", n, i+1)
					}
					if err := c.Check(badThing); err != nil {
						t.Error(err)
					}
					time.Sleep(againAfter + 1)
				}
				p.fault = nil
				_ = c.Check(badThing)
				synctest.Wait()
				if err := c.Check(badThing); err == nil {
					t.Error("no error though the plugin is well")
				}
			})
		})
	}
}

// Plugin ids may come from what a policy makes of its input: they cost a bounded
// number of fetches at a time and a bounded memory, and reach no other host.
func TestMetadataOfMadeUpPlugins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: slow}
		c, network, _, stop := serveMemory(t, p, Options{})
		defer stop()
		for i := range 10 * maxPlugins {
			if err := c.Check(decision(fmt.Sprint("x", i), "thing", leaf("thing", "A", ""))); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if network.dials > fetchesAtOnce {
			t.Errorf("%d fetches at once", network.dials)
		}
		c.plugins.CleanUp()
		if n := c.plugins.EstimatedSize(); n > maxPlugins {
			t.Errorf("%d plugins are remembered", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		before := network.dials
		for _, id := range []string{"../x", "", "a/b"} {
			if err := c.Check(decision(id, "thing", leaf("thing", "A", ""))); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if network.dials != before {
			t.Error("an id that cannot be a plugin's was fetched")
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{fault: slow, metadata: readTestdata(t, "metadata.json")}
		c, _, _, stop := serveMemory(t, p, Options{})
		defer stop()
		_ = c.Check(goodThing)
		synctest.Wait()
		start := time.Now()
		c.Close()
		if time.Since(start) != 0 || len(c.metadata.underWay) != 0 {
			t.Errorf("closed after %v", time.Since(start))
		}
		time.Sleep(time.Hour)
		_ = c.Check(goodThing)
		synctest.Wait()
		if n := len(p.callsOf("todo")); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if got := results(c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a")})[0]); got != "A" {
			t.Errorf("Apply after Close: %s", got)
		}
	})
}
