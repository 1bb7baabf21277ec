package adapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// scrape is what /metrics has, by name and labels.
func (s *site) scrape(t *testing.T) map[string]string {
	t.Helper()
	status, text := s.get(t, s.admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	series := map[string]string{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			at := strings.LastIndexByte(line, ' ')
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// Every series is there before anything happened.
func TestMetricsAreThereFromTheStart(t *testing.T) {
	series := newSite(t, siteOptions{}).scrape(t)
	for _, name := range []string{
		`stagedoor_requests_total{outcome="ok",route="authorize"}`,
		`stagedoor_requests_total{outcome="unauthenticated",route="authorize"}`,
		`stagedoor_requests_total{outcome="bad_request",route="authorize"}`,
		`stagedoor_requests_total{outcome="too_large",route="authorize"}`,
		`stagedoor_requests_total{outcome="shed",route="authorize"}`,
		`stagedoor_requests_total{outcome="no_policy",route="authorize"}`,
		`stagedoor_requests_total{outcome="policy",route="authorize"}`,
		`stagedoor_requests_total{outcome="plugin",route="authorize"}`,
		`stagedoor_requests_total{outcome="userinfo",route="authorize"}`,
		`stagedoor_requests_total{outcome="audit",route="authorize"}`,
		`stagedoor_requests_total{outcome="timeout",route="authorize"}`,
		`stagedoor_requests_total{outcome="gone",route="authorize"}`,
		`stagedoor_requests_total{outcome="ok",route="health"}`,
		`stagedoor_requests_total{outcome="ok",route="key_set"}`,
		`stagedoor_decisions_total{permission="todo.item.update",result="allow"}`,
		`stagedoor_decisions_total{permission="other",result="failed"}`,
		`stagedoor_stage_duration_seconds_count{stage="verify"}`,
		`stagedoor_stage_duration_seconds_count{stage="userinfo"}`,
		`stagedoor_stage_duration_seconds_count{stage="evaluate"}`,
		`stagedoor_stage_duration_seconds_count{stage="apply_conditions"}`,
		`stagedoor_stage_duration_seconds_count{stage="log"}`,
		`stagedoor_stage_duration_seconds_count{stage="whole"}`,
		`stagedoor_stage_duration_seconds_bucket{stage="whole",le="0.0001"}`,
		`stagedoor_plugin_duration_seconds_count{plugin="todo"}`,
		`stagedoor_plugin_duration_seconds_count{plugin="other"}`,
		`stagedoor_request_duration_seconds_count`,
		`stagedoor_failures_total`,
		`stagedoor_requests_in_flight`,
		`stagedoor_requests_waiting`,
		`stagedoor_memory_bytes{part="large"}`,
		`stagedoor_policy_refusals`,
		`stagedoor_identity_precompute_disagreements_total`,
		`stagedoor_identity_user_info_stale_total`,
		`stagedoor_cache_hits_total{cache="tokens"}`,
		`stagedoor_cache_misses_total{cache="user_info"}`,
		`stagedoor_cache_evictions_total{cache="issued"}`,
		`stagedoor_cache_bytes{cache="tokens"}`,
		`stagedoor_cache_hits_total{cache="decisions"}`,
		`stagedoor_cache_misses_total{cache="decisions"}`,
		`stagedoor_cache_evictions_total{cache="decisions"}`,
		`stagedoor_cache_bytes{cache="decisions"}`,
		`stagedoor_decisions_shared_total`,
		`stagedoor_identity_plugins_known`,
		`stagedoor_identity_turns_waiting`,
	} {
		if series[name] != "0" {
			t.Errorf("%s is %q; want 0", name, series[name])
		}
	}
	for _, name := range []string{"stagedoor_identity_precompute", "stagedoor_policy_ready"} {
		if series[name] != "1" {
			t.Errorf("%s is %q; want 1", name, series[name])
		}
	}
	found := 0
	for name := range series {
		if strings.HasPrefix(name, "stagedoor_build_info{") || strings.HasPrefix(name, "stagedoor_policy_info{") {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of build and policy", found)
	}
}

// Requests count by what came of them, and made-up names make no series.
func TestRequestsCount(t *testing.T) {
	var todo *gate
	site := newSite(t, siteOptions{between: func(backstage string) map[string]string {
		todo = newGate(t, backstage+"/api/todo")
		return map[string]string{"todo": todo.URL}
	}})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	service, err := site.backstage.PluginToken("")
	check(t, err)
	stranger, err := site.backstage.PluginToken("user:default/nobody-knows")
	check(t, err)
	site.post(t, token, askUpdate)
	before := site.scrape(t)
	for n := range 50 {
		site.post(t, token, strings.ReplaceAll(askBasic, `"name":"a"`, fmt.Sprintf(`"name":"made.up.%d"`, n)))
	}
	site.post(t, token, askBasic)
	site.post(t, token, askUpdate)
	site.post(t, "", askBasic)
	site.post(t, service, askBasic)
	site.post(t, token, `{"items":7}`)
	site.post(t, token, `{"x":"`+strings.Repeat("x", 11<<20)+`"}`)
	site.post(t, stranger, askBasic)
	site.get(t, site.url+"/health")
	todo.set(answers(http.StatusBadRequest, "application/json", `{"error":{"name":"InputError","message":"rule \"X\" of it"}}`))
	site.post(t, token, askUpdate)
	after := site.scrape(t)
	for name, want := range map[string]string{
		`stagedoor_requests_total{outcome="ok",route="authorize"}`:                      "54",
		`stagedoor_requests_total{outcome="unauthenticated",route="authorize"}`:         "1",
		`stagedoor_requests_total{outcome="forbidden",route="authorize"}`:               "1",
		`stagedoor_requests_total{outcome="bad_request",route="authorize"}`:             "1",
		`stagedoor_requests_total{outcome="too_large",route="authorize"}`:               "1",
		`stagedoor_requests_total{outcome="plugin",route="authorize"}`:                  "1",
		`stagedoor_requests_total{outcome="ok",route="health"}`:                         "1",
		`stagedoor_request_duration_seconds_count`:                                      "59",
		`stagedoor_decisions_total{permission="other",result="allow"}`:                  "50",
		`stagedoor_decisions_total{permission="todo.item.update",result="conditional"}`: "3",
		`stagedoor_plugin_duration_seconds_count{plugin="todo"}`:                        "3",
		`stagedoor_stage_duration_seconds_count{stage="verify"}`:                        "58",
	} {
		if after[name] != want {
			t.Errorf("%s is %s; want %s", name, after[name], want)
		}
	}
	for name := range after {
		if _, was := before[name]; !was && strings.HasPrefix(name, "stagedoor_") {
			t.Errorf("%s is new", name)
		}
	}
	line := ""
	for one := range strings.Lines(site.log.String()) {
		if strings.Contains(one, `"outcome":"plugin"`) {
			line = one
		}
	}
	for _, want := range []string{
		`"permission":"todo.item.update"`, `"caller":"user through plugin"`, `"actor":"todo"`, `"plugin":"todo"`, `"rule":"X"`, `"revision"`,
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

// A caller who does not wait for the answer is told apart from whoever was being asked
// meanwhile, and is no error. The time that this took is in the step's.
func TestCallersWhoLeave(t *testing.T) {
	for plugin, stage := range map[string]string{"auth": "userinfo", "todo": "apply_conditions"} {
		t.Run(plugin, func(t *testing.T) {
			gates := map[string]*gate{}
			site := newSite(t, siteOptions{between: func(backstage string) map[string]string {
				places := map[string]string{}
				for _, id := range []string{"auth", "todo"} {
					gates[id] = newGate(t, backstage+"/api/"+id)
					places[id] = gates[id].URL
				}
				return places
			}})
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			service, err := site.backstage.PluginToken("user:default/nobody-knows")
			check(t, err)
			if plugin == "todo" {
				site.post(t, token, askUpdate) // alice and the plugin's metadata are known from here on
			} else {
				site.post(t, service, askBasic) // the keys are known
			}
			asked := make(chan struct{}, 8)
			gates[plugin].set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
				_, _ = io.Copy(io.Discard, r.Body) // or nobody would notice that the other side left
				asked <- struct{}{}
				<-r.Context().Done()
			})
			before := site.scrape(t)
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				<-asked
				leave()
			}()
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, site.url+"/authorize", strings.NewReader(askUpdate))
			check(t, err)
			request.Header.Set("Authorization", "Bearer "+token)
			request.Header.Set("Content-Type", "application/json")
			if response, err := site.client.Do(request); err == nil {
				_ = response.Body.Close()
				t.Fatal(response.Status)
			}
			const gone = `stagedoor_requests_total{outcome="gone",route="authorize"}`
			after := site.scrape(t)
			for begun := time.Now(); after[gone] != "1" && time.Since(begun) < 20*time.Second; after = site.scrape(t) {
				time.Sleep(10 * time.Millisecond)
			}
			for _, outcome := range []string{"userinfo", "plugin", "timeout", "internal"} {
				name := `stagedoor_requests_total{outcome="` + outcome + `",route="authorize"}`
				if after[name] != before[name] {
					t.Errorf("%s is %s, and was %s", name, after[name], before[name])
				}
			}
			if took := `stagedoor_stage_duration_seconds_count{stage="` + stage + `"}`; after[gone] != "1" || after[took] == before[took] {
				t.Errorf("%s left; %s before and %s after in %s", after[gone], before[took], after[took], took)
			}
			for line := range strings.Lines(site.log.String()) {
				if strings.Contains(line, `"outcome":"gone"`) && strings.Contains(line, `"level":"info"`) {
					return
				}
			}
			t.Errorf("the log has no line of it: %s", site.log.String())
		})
	}
}

// A permission that the inventory does not know is counted under its name where a plugin
// publishes it, and no other name makes a series.
func TestPublishedPermissionsCount(t *testing.T) {
	const metadata = `{"rules":[],"permissions":[{"type":"basic","name":"acme.report","attributes":{}}]}`
	site := newSite(t, siteOptions{between: func(string) map[string]string {
		acme := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, metadata)
		}))
		t.Cleanup(acme.Close)
		return map[string]string{"acme": acme.URL}
	}})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	ask := func(name string) {
		t.Helper()
		if status, body := site.post(t, token, strings.ReplaceAll(askBasic, `"name":"a"`, `"name":"`+name+`"`)); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	ask("acme.report")
	ask("acme.report")
	before := site.scrape(t)
	for result, want := range map[string]string{"allow": "2", "deny": "0", "conditional": "0", "failed": "0"} {
		if got := before[`stagedoor_decisions_total{permission="acme.report",result="`+result+`"}`]; got != want {
			t.Errorf("%s is %q, want %s", result, got, want)
		}
	}
	if _, is := before[`stagedoor_plugin_duration_seconds_count{plugin="acme"}`]; !is {
		t.Error("no time of the plugin")
	}
	for n := range 1000 {
		ask(fmt.Sprintf("acme.made.up.%d", n))
	}
	for name := range site.scrape(t) {
		if _, was := before[name]; !was && strings.HasPrefix(name, "stagedoor_") {
			t.Errorf("%s is new", name)
		}
	}
}

// The line of a policy that failed is in the log.
func TestFailuresNameTheirPlace(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: writeBundle(t, map[string]string{".manifest": manifest("7", "p"), "p.rego": `package p

# METADATA
# entrypoint: true
decision := {"result": "ALLOW"}

decision := {"result": "DENY"}
`})})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	if status, _ := site.post(t, token, askBasic); status != http.StatusInternalServerError {
		t.Fatal(status)
	}
	for _, want := range []string{`"at":"`, `p.rego:7"`, `"permission":"a"`, `"revision":"7"`, `"outcome":"policy"`} {
		if !strings.Contains(site.log.String(), want) {
			t.Errorf("no %s in %s", want, site.log.String())
		}
	}
}

// Equal refusals are told a few times and counted, all of them.
func TestRefusalsAreSampled(t *testing.T) {
	site := newSite(t, siteOptions{})
	const requests = 20_000
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range requests / 8 {
				response, err := client.Post(site.url+"/authorize", "application/json", nil)
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
			}
		})
	}
	all.Wait()
	site.server.Close()
	lines, told := 0, 0
	for line := range strings.Lines(site.log.String()) {
		if !strings.Contains(line, `"status":401`) {
			continue
		}
		lines++
		var fields struct{ More int }
		check(t, json.Unmarshal([]byte(line), &fields))
		if fields.More > 0 {
			told += fields.More
		} else {
			told++
		}
	}
	if lines > 100 || told != requests {
		t.Errorf("%d lines tell of %d requests", lines, told)
	}
	// A probe that is told no is no error.
	if strings.Contains(site.log.String(), `"level":"error"`) {
		t.Error("errors in the log")
	}
}
