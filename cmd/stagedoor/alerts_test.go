//go:build deploy

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// What is scraped in the time of a test stands for minutes: each scrape is one.
const (
	scrapesBefore = 8
	scrapesDuring = 20
	scrapesAfter  = 16
	scrapeEvery   = 100 * time.Millisecond
)

// doorPolicy allows what is asked most, and fails, is slow or makes conditions where a
// fault wants that.
const doorPolicy = `package door

# METADATA
# entrypoint: true
decision := {"result": "ALLOW"} if input.permission.name == "todo.list"

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
} if {
	input.permission.resourceType == "todo-item"
}

decision := {"result": "ALLOW"} if input.permission.name == "conflict"

decision := {"result": "DENY"} if input.permission.name == "conflict"

decision := {"result": "ALLOW"} if {
	startswith(input.permission.name, "slow.")
	count([n | some n in numbers.range(1, 200000); n % 7 == 3]) > 0
}
`

// Items that plugins ask about.
const (
	itemList     = `{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}`
	itemUpdate   = `{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"},"resourceRef":"todo-1"}`
	itemConflict = `{"id":"1","permission":{"type":"basic","name":"conflict","attributes":{}}}`
)

// gate stands before a plugin. It hands everything on, or does what a test sets.
type gate struct {
	*httptest.Server
	proxy  http.Handler
	faulty atomic.Pointer[http.HandlerFunc]
}

func newGate(t *testing.T, before string) *gate {
	t.Helper()
	to, err := url.Parse(before)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	g := &gate{proxy: proxy}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if faulty := g.faulty.Load(); faulty != nil {
			(*faulty)(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// breaks has the gate do something else; nil mends it.
func (g *gate) breaks(how http.HandlerFunc) {
	if how == nil {
		g.faulty.Store(nil)
		return
	}
	g.faulty.Store(&how)
}

// down is how a plugin answers whose process is gone behind a proxy.
func down(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }

// scene is the real binary between its neighbours, and what was scraped of it.
type scene struct {
	*lifecycle
	process    *process
	auth, todo *gate
	receiver   *gate            // of the decision log
	front      *httptest.Server // both plugins, as Backstage's own address has them
	bundles    *publisher
	folder     string // of the policy
	config     string
	scrapes    []map[string]string // by series; nil where none was answered

	clients []*clients
	unread  func() // ends that nobody reads the log
	asked   atomic.Int64
}

// clients are some who ask until they are stopped.
type clients struct {
	stopped chan struct{}
	group   sync.WaitGroup
}

func (c *clients) stop() {
	close(c.stopped)
	c.group.Wait()
}

// newScene writes the configuration: stagedoor and opa are what the fault adds to these
// sections.
// operatorToken is that of the commands that write data.
const operatorToken = "an-operator-of-the-tests"

func newScene(t *testing.T, stagedoor, opa string) *scene {
	t.Helper()
	listen := fixture.Address(t)
	s := &scene{lifecycle: newLifecycleAt(t, "http://"+listen+"/api/permission"), bundles: newPublisher(t)}
	s.binary = built(t)
	s.auth, s.todo = newGate(t, s.backstage.URL+"/api/auth"), newGate(t, s.backstage.URL+"/api/todo")
	front := http.NewServeMux()
	front.Handle("/api/auth/", http.StripPrefix("/api/auth", s.auth.Config.Handler))
	front.Handle("/api/todo/", http.StripPrefix("/api/todo", s.todo.Config.Handler))
	s.front = httptest.NewServer(front)
	t.Cleanup(s.front.Close)
	taken := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(taken.Close)
	s.receiver = newGate(t, taken.URL)
	s.folder = filepath.Join(s.dir, "policy")
	must(t, os.Mkdir(s.folder, 0o750))
	writeConfig(t, filepath.Join(s.folder, ".manifest"), `{"roots": ["door"]}`)
	writeConfig(t, filepath.Join(s.folder, "policy.rego"), doorPolicy)
	if !strings.Contains(opa, "bundles:") {
		stagedoor += fmt.Sprintf("\n  policy: {path: %q}", s.folder)
	}
	stagedoor = strings.ReplaceAll(stagedoor, "DIR", s.dir)
	s.config = filepath.Join(s.dir, "stagedoor.yaml")
	s.bundles.up(t)
	t.Cleanup(s.bundles.down)
	writeConfig(t, s.config, fmt.Sprintf(`
backend: {baseUrl: %q, lifecycle: {serverShutdownDelay: 0s}}
discovery: {endpoints: [{target: %q, plugins: [auth]}, {target: %q, plugins: [todo]}]}
stagedoor:
  listen: %q
  admin: {listen: "127.0.0.1:0", token: `+operatorToken+`, dataRoots: [teams]}%s
%s`, s.backstage.URL, s.auth.URL, s.todo.URL, listen, stagedoor,
		strings.NewReplacer("RECEIVER", s.receiver.URL, "BUNDLES", "http://"+s.bundles.address).Replace(opa)))
	t.Cleanup(func() { s.stop(0) })
	return s
}

// built is the binary of the Makefile.
func built(t *testing.T) string {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join("..", "..", "bin", "stagedoor"))
	must(t, err)
	_, err = os.Stat(binary)
	must(t, err)
	return binary
}

// up starts stagedoor, once more where it was stopped.
func (s *scene) up(t *testing.T) { s.process = s.start(t, s.config) }

// address is where plugins ask.
func (s *scene) address() string {
	return strings.TrimSuffix(strings.TrimPrefix(s.process.URL, "http://"), "/api/permission")
}

// meanwhile has plugins ask about what item returns for each number, over and over, as
// so many clients. Nobody minds the answers.
func (s *scene) meanwhile(t *testing.T, n int, item func(n int64) string) {
	t.Helper()
	token, err := s.backstage.PluginToken("user:default/alice")
	must(t, err)
	c := s.more()
	for range n {
		c.group.Go(func() {
			asker := &speaker{}
			defer asker.close()
			for {
				select {
				case <-c.stopped:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if to := s.address(); to != asker.address {
					asker.close()
					asker.address = to
				}
				_, _ = asker.ask(asking(token, item(s.asked.Add(1))))
			}
		})
	}
}

// leave has so many clients ask what a plugin must decide, over and over, and not wait for
// the answer.
func (s *scene) leave(t *testing.T, n int) {
	t.Helper()
	token, err := s.backstage.PluginToken("user:default/alice")
	must(t, err)
	c := s.more()
	for range n {
		c.group.Go(func() {
			for {
				connection, err := net.Dial("tcp", s.address())
				if err != nil {
					return
				}
				item := strings.Replace(itemUpdate, "todo-1", fmt.Sprintf("todo-%d", s.asked.Add(1)), 1)
				_, _ = connection.Write(asking(token, item))
				select {
				case <-c.stopped:
					_ = connection.Close()
					return
				case <-time.After(200 * time.Millisecond):
					_ = connection.Close()
				}
			}
		})
	}
}

// hold has so many users begin a body of so many bytes, over and over, that they never
// send.
func (s *scene) hold(t *testing.T, users, bytes int) {
	t.Helper()
	c := s.more()
	for n := range users {
		token, err := s.backstage.PluginToken(fmt.Sprintf("user:default/u%d", n))
		must(t, err)
		begun := fmt.Appendf(nil, "POST /api/permission/authorize HTTP/1.1\r\nHost: stagedoor\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{", token, bytes)
		c.group.Go(func() {
			for {
				connection, err := net.Dial("tcp", s.address())
				if err != nil {
					return
				}
				_, _ = connection.Write(begun)
				answered := make(chan struct{})
				go func() { _, _ = io.Copy(io.Discard, connection); close(answered) }()
				select {
				case <-c.stopped:
					_ = connection.Close()
					return
				case <-answered:
					_ = connection.Close()
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
}

func (s *scene) more() *clients {
	c := &clients{stopped: make(chan struct{})}
	s.clients = append(s.clients, c)
	return c
}

// calm ends what a fault asks, and leaves what was asked before.
func (s *scene) calm() { s.stop(1) }

func (s *scene) stop(after int) {
	for _, c := range s.clients[after:] {
		c.stop()
	}
	s.clients = s.clients[:after]
}

func asking(token, items string) []byte {
	body := `{"items":[` + items + `]}`
	return fmt.Appendf(nil, "POST /api/permission/authorize HTTP/1.1\r\nHost: stagedoor\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body)
}

// scrape scrapes so many times.
func (s *scene) scrape(t *testing.T, times int) {
	t.Helper()
	for range times {
		s.scrapes = append(s.scrapes, s.once(t))
		time.Sleep(scrapeEvery)
	}
}

func (s *scene) once(t *testing.T) map[string]string {
	t.Helper()
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.process.Admin+"/metrics", http.NoBody))
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil
	}
	series := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// shows waits until a series of a scrape is as wanted.
func (s *scene) shows(t *testing.T, series string, want func(value string) bool) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(scrapeEvery) {
		value := s.once(t)[series]
		if want(value) {
			return
		}
		if time.Since(begun) > patience {
			log := s.log()
			t.Fatalf("%s is %q\n%s", series, value, log[max(0, len(log)-2000):])
		}
	}
}

// settles waits until a series of a scrape has stayed the same for five seconds.
func (s *scene) settles(t *testing.T, series string) {
	t.Helper()
	last, since := "", time.Now()
	for begun := time.Now(); time.Since(since) < 5*time.Second; time.Sleep(scrapeEvery) {
		if value := s.once(t)[series]; value != last {
			last, since = value, time.Now()
		}
		if time.Since(begun) > patience {
			t.Fatalf("%s is %q and goes on", series, last)
		}
	}
}

// configuration is what the process is told to read.
func (s *scene) configuration(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.config)
	must(t, err)
	return string(text)
}

// reload has the process read this configuration.
func (s *scene) reload(t *testing.T, text string) {
	t.Helper()
	writeConfig(t, s.config, text)
	must(t, s.process.command.Process.Signal(syscall.SIGHUP))
}

// ends is the series of how long the certificate of certify is valid yet.
const ends = `stagedoor_certificate_remaining_seconds{address="api"}`

// log is what the process wrote; nothing while nobody reads it.
func (s *scene) log() string {
	if !s.process.mutex.TryLock() {
		return ""
	}
	defer s.process.mutex.Unlock()
	return s.process.log.String()
}

func isNot0(value string) bool { return value != "" && value != "0" }

func is0(value string) bool { return value == "0" }

// series are the scrapes as promtool reads them, one sample a minute. names chooses.
func (s *scene) series(names *regexp.Regexp) []map[string]string {
	values := map[string][]string{}
	up := make([]string, len(s.scrapes))
	for n, scrape := range s.scrapes {
		up[n] = "1"
		if scrape == nil {
			up[n] = "0"
		}
		for name := range scrape {
			if names.MatchString(name) && values[name] == nil {
				values[name] = make([]string, len(s.scrapes))
			}
		}
	}
	var all []map[string]string
	add := func(name, labels string, v []string) {
		if labels != "" {
			labels += ","
		}
		all = append(all, map[string]string{
			"series": fmt.Sprintf(`%s{%sinstance="door",job="stagedoor"}`, name, labels), "values": strings.Join(v, " "),
		})
	}
	for name, v := range values {
		before := ""
		for n, scrape := range s.scrapes {
			value, is := scrape[name]
			switch {
			case is:
				v[n] = value
			case before == "" || before == "_" || before == "stale":
				v[n] = "_"
			default:
				v[n] = "stale" // so does Prometheus where a series is no longer told
			}
			before = v[n]
		}
		metric, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		add(metric, labels, v)
	}
	add("up", "", up)
	return all
}

// expects is what an expression is to have after so many minutes.
type expects struct {
	expression string
	minute     int
	samples    map[string]float64 // by labels
}

// promtool runs `promtool test rules` over the scrapes.
func (s *scene) promtool(t *testing.T, expected []expects) {
	t.Helper()
	rules, err := filepath.Abs(filepath.Join("..", "..", "deploy", "prometheus", "stagedoor.rules.yaml"))
	must(t, err)
	var tests []map[string]any
	for _, e := range expected {
		samples := []map[string]any{}
		for labels, value := range e.samples {
			samples = append(samples, map[string]any{"labels": labels, "value": value})
		}
		tests = append(tests, map[string]any{"expr": e.expression, "eval_time": fmt.Sprintf("%dm", e.minute), "exp_samples": samples})
	}
	document, err := json.Marshal(map[string]any{
		"rule_files": []string{rules}, "evaluation_interval": "1m",
		"tests": []map[string]any{{
			"interval": "1m", "input_series": s.series(regexp.MustCompile(`^(stagedoor|decision_logs|process)_`)), "promql_expr_test": tests,
		}},
	})
	must(t, err)
	file := filepath.Join(s.dir, "promtool.yaml") // JSON is YAML
	writeConfig(t, file, string(document))
	if text, err := exec.CommandContext(t.Context(), "promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, text)
		for _, asked := range s.series(regexp.MustCompile(`^stagedoor_requests_total.*authorize`)) {
			if strings.Trim(asked["values"], "0 ") != "" {
				t.Logf("%s\n%s", asked["series"], asked["values"])
			}
		}
	}
}

// fault is what an alert is there for.
type fault struct {
	alert          string
	stagedoor, opa string        // of the configuration
	clients        int           // 4 where it is 0
	pause          time.Duration // more than 5 ms, of a client between two questions
	begin, end     func(*testing.T, *scene)
	before         func(*testing.T, *scene) // before it starts; nothing where it is nil
	also           []string                 // alerts that this fault fires as well
	// grows is what grows between any two scrapes while the fault lasts; nothing where it
	// is empty. Without it, what lasts longer than some scrapes may be in none of them.
	grows string
}

// always is one item, over and over.
func always(item string) func(int64) string { return func(int64) string { return item } }

// faults are what each alert is there for, by what happens.
func faults() map[string]fault {
	const renews = "\n  identity: {userInfoTtl: 1s, userInfoStale: %s}"
	const bundles = `opa: {services: {s: {url: "BUNDLES"}}, bundles: {door: {service: s, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}}`
	failed := func(outcome string) string {
		return fmt.Sprintf(`stagedoor_requests_total{outcome=%q,route="authorize"}`, outcome)
	}
	return map[string]fault{
		"the process is killed": {
			alert: "StagedoorDown",
			begin: func(_ *testing.T, s *scene) { s.process.kill() },
			end:   func(t *testing.T, s *scene) { s.up(t) },
		},
		"a new process without its bundle server": {
			alert: "StagedoorNoPolicy", opa: bundles, also: []string{"StagedoorPolicyRefused"},
			begin: func(t *testing.T, s *scene) {
				s.process.kill()
				s.bundles.down()
				s.up(t)
				s.shows(t, "stagedoor_policy_refusals", isNot0)
			},
			end: func(t *testing.T, s *scene) {
				s.bundles.up(t)
				s.shows(t, "stagedoor_policy_ready", isNot0)
			},
		},
		"a policy that contradicts itself": {
			alert: "StagedoorErrors", grows: failed("policy"),
			begin: func(t *testing.T, s *scene) { s.meanwhile(t, 2, always(itemConflict)) },
			end:   func(_ *testing.T, s *scene) { s.calm() },
		},
		"an auth backend that is down": {
			alert: "StagedoorErrors", grows: failed("userinfo"), stagedoor: fmt.Sprintf(renews, "0s"),
			begin: func(t *testing.T, s *scene) {
				s.auth.breaks(down)
				s.shows(t, failed("userinfo"), isNot0)
			},
			end: func(_ *testing.T, s *scene) { s.auth.breaks(nil) },
		},
		"callers who do not wait for a plugin that hangs": {
			alert: "StagedoorErrors", grows: failed("gone"), clients: 1, pause: 50 * time.Millisecond,
			begin: func(t *testing.T, s *scene) {
				s.todo.breaks(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // or nobody would notice that the other side left
					<-r.Context().Done()
				})
				s.leave(t, 8)
				s.shows(t, failed("gone"), isNot0)
			},
			end: func(_ *testing.T, s *scene) {
				s.calm()
				s.todo.breaks(nil)
			},
		},
		"a required log that is not taken": {
			alert: "StagedoorErrors", also: []string{"StagedoorDegraded"}, grows: failed("audit"), stagedoor: "\n  audit: {required: true}",
			opa: `opa: {services: {log: {url: "RECEIVER"}}, decision_logs: {service: log}}`,
			begin: func(t *testing.T, s *scene) {
				s.receiver.breaks(down)
				s.shows(t, failed("audit"), isNot0)
			},
			end: func(_ *testing.T, s *scene) { s.receiver.breaks(nil) },
		},
		"more requests than slots": {
			alert: "StagedoorShedding", grows: failed("shed"), stagedoor: "\n  limits: {inFlight: 1, decision: 10s}", clients: 1,
			begin: func(t *testing.T, s *scene) {
				s.meanwhile(t, 8, func(n int64) string {
					return fmt.Sprintf(`{"id":"1","permission":{"type":"basic","name":"slow.%d","attributes":{}}}`, n)
				})
				s.shows(t, failed("shed"), isNot0)
			},
			end: func(_ *testing.T, s *scene) { s.calm() },
		},
		"a slow plugin": {
			alert: "StagedoorSlow", clients: 1, grows: `stagedoor_plugin_duration_seconds_count{plugin="todo"}`,
			begin: func(t *testing.T, s *scene) {
				s.todo.breaks(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(600*time.Millisecond + rand.N(300*time.Millisecond)) //nolint:gosec // it is no secret
					s.todo.proxy.ServeHTTP(w, r)
				})
				// Each about another item: the same question is asked of a plugin once at a time.
				s.meanwhile(t, 8, func(n int64) string {
					return strings.Replace(itemUpdate, "todo-1", fmt.Sprintf("todo-%d", n), 1)
				})
				s.shows(t, `stagedoor_plugin_duration_seconds_count{plugin="todo"}`, isNot0)
			},
			end: func(_ *testing.T, s *scene) { s.calm(); s.todo.breaks(nil) },
		},
		"a folder that must not serve": {
			alert: "StagedoorPolicyRefused",
			begin: func(t *testing.T, s *scene) {
				writeConfig(t, filepath.Join(s.folder, "policy.rego"), strings.Replace(doorPolicy, "# entrypoint: true", "# title: none", 1))
				s.shows(t, "stagedoor_policy_refusals", isNot0)
			},
			end: func(t *testing.T, s *scene) {
				writeConfig(t, filepath.Join(s.folder, "policy.rego"), doorPolicy)
				s.shows(t, "stagedoor_policy_refusals", is0)
			},
		},
		"a bundle that must not serve": {
			alert: "StagedoorPolicyRefused", opa: bundles,
			begin: func(t *testing.T, s *scene) {
				s.bundles.put(published{revision: "2", bundle: []byte("no bundle")})
				s.shows(t, `stagedoor_policy_refused{bundle="door"}`, isNot0)
				writeConfig(t, filepath.Join(s.folder, "policy.rego"), "package door") // what the operator looks at
			},
			end: func(t *testing.T, s *scene) {
				writeConfig(t, filepath.Join(s.folder, "policy.rego"), doorPolicy)
				s.bundles.put(published{revision: "3", bundle: bundleOf(t, s.folder)})
				s.shows(t, "stagedoor_policy_refusals", is0)
			},
		},
		"a configuration with a misspelt key": {
			alert: "StagedoorConfigurationRefused",
			begin: func(t *testing.T, s *scene) {
				s.reload(t, strings.Replace(s.configuration(t), "listen:", "lisen:", 1))
				s.shows(t, "stagedoor_config_last_reload_successful", is0)
			},
			end: func(t *testing.T, s *scene) {
				s.reload(t, strings.Replace(s.configuration(t), "lisen:", "listen:", 1))
				s.shows(t, "stagedoor_config_last_reload_successful", isNot0)
			},
		},
		"a certificate of two days": {
			alert: "StagedoorCertificateEnds", stagedoor: "\n  tls: {certFile: DIR/api.crt, keyFile: DIR/api.key}",
			before: func(t *testing.T, s *scene) { s.certify(t, 90*24*time.Hour) },
			begin: func(t *testing.T, s *scene) {
				s.certify(t, 48*time.Hour)
				s.shows(t, ends, func(value string) bool { return strings.HasPrefix(value, "1") }) // 172800
			},
			end: func(t *testing.T, s *scene) {
				s.certify(t, 90*24*time.Hour)
				s.shows(t, ends, func(value string) bool { return strings.HasPrefix(value, "7") }) // 7776000
			},
		},
		"a log receiver that is away": {
			alert: "StagedoorDegraded", clients: 1, pause: 50 * time.Millisecond, // for which the buffer has room
			opa: `opa: {services: {log: {url: "RECEIVER"}}, decision_logs: {service: log}}`,
			begin: func(t *testing.T, s *scene) {
				s.receiver.breaks(down)
				s.shows(t, `stagedoor_degraded{part="decision_log"}`, isNot0)
			},
			end: func(t *testing.T, s *scene) {
				s.receiver.breaks(nil)
				s.shows(t, `stagedoor_degraded{part="decision_log"}`, is0)
			},
		},
		"a plugin that is down": {
			alert: "StagedoorPluginLeftAlone", also: []string{"StagedoorErrors"}, grows: failed("plugin"),
			begin: func(t *testing.T, s *scene) {
				s.todo.breaks(down)
				s.meanwhile(t, 8, func(n int64) string { // equal questions would share one call
					return strings.Replace(itemUpdate, "todo-1", fmt.Sprintf("todo-%d", n), 1)
				})
				s.shows(t, `stagedoor_plugin_breaker_open{plugin="todo"}`, isNot0)
			},
			end: func(t *testing.T, s *scene) {
				s.todo.breaks(nil)
				s.shows(t, `stagedoor_plugin_breaker_open{plugin="todo"}`, is0)
			},
		},
		"an auth backend that is down, with userInfoStale": {
			alert: "StagedoorUserInfoStale", grows: "stagedoor_identity_user_info_stale_total", stagedoor: fmt.Sprintf(renews, "10m"),
			begin: func(t *testing.T, s *scene) {
				s.auth.breaks(down)
				s.shows(t, "stagedoor_identity_user_info_stale_total", isNot0)
			},
			end: func(t *testing.T, s *scene) {
				s.auth.breaks(nil)
				time.Sleep(2 * time.Second) // until it is asked again
			},
		},
		"bodies that come slowly": {
			alert: "StagedoorMemoryShort", stagedoor: "\n  limits: {memory: 4MiB, body: 64KiB}",
			begin: func(t *testing.T, s *scene) {
				s.hold(t, 60, 8000)
				s.shows(t, `stagedoor_memory_bytes{part="small"}`, isNot0)
				time.Sleep(time.Second)
			},
			end: func(t *testing.T, s *scene) {
				s.calm()
				s.shows(t, `stagedoor_memory_bytes{part="small"}`, func(v string) bool { return len(v) < 6 })
			},
		},
		"a log that nobody reads": {
			alert: "StagedoorLogDropped", opa: "opa: {decision_logs: {console: true}}",
			begin: func(t *testing.T, s *scene) {
				reader := &s.process.mutex // of what it writes
				reader.Lock()
				s.unread = sync.OnceFunc(reader.Unlock)
				t.Cleanup(s.unread)
				s.meanwhile(t, 2, always(strings.Repeat(itemList+",", 499)+itemList))
				s.shows(t, "stagedoor_log_lines_dropped_total", isNot0)
			},
			end: func(_ *testing.T, s *scene) { s.calm(); s.unread() },
		},
		"a log receiver that is down": losing(
			"buffer_type: event, buffer_size_limit_events: 400", "decision_logs_dropped_buffer_size_limit_exceeded_total"),
		"a log receiver that is down, and bytes count": losing(
			"buffer_type: size, buffer_size_limit_bytes: 30000", "decision_logs_dropped_buffer_size_limit_bytes_exceeded_total"),
		"memory whose bits have turned": {
			alert: "StagedoorVerifierDisagrees",
			begin: func(t *testing.T, s *scene) {
				turnBits(t, s.process.command.Process.Pid, s.backstage.PluginKey)
				s.shows(t, "stagedoor_identity_precompute_disagreements_total", isNot0)
			},
			end: func(t *testing.T, s *scene) { s.process.kill(); s.up(t) }, // another machine
		},
	}
}

// losing is that the receiver of the decision log is down, with such a buffer, until the
// series says that events were lost.
func losing(buffer, series string) fault {
	return fault{
		alert: "StagedoorDecisionLogDropped", also: []string{"StagedoorDegraded"}, clients: 1, pause: 50 * time.Millisecond, // for which the buffer has room
		opa: `opa: {services: {log: {url: "RECEIVER"}}, decision_logs: {service: log, reporting: {min_delay_seconds: 1, max_delay_seconds: 1, ` + buffer + `}}}`,
		begin: func(t *testing.T, s *scene) {
			s.receiver.breaks(down)
			s.meanwhile(t, 2, always(strings.Repeat(itemList+",", 199)+itemList))
			s.shows(t, series, isNot0)
		},
		end: func(t *testing.T, s *scene) {
			s.calm()
			s.receiver.breaks(nil)
			s.settles(t, series)
		},
	}
}

// TestAlerts fires each alert of deploy/prometheus by its own fault, and mends that: the
// binary is scraped before, meanwhile and afterwards, and promtool says what fires.
func TestAlerts(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "stagedoor.rules.yaml"))
	must(t, err)
	missing := map[string]bool{}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		missing[alert[1]] = true
	}
	for name, f := range faults() {
		delete(missing, f.alert)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, f.stagedoor, f.opa)
			f.play(t, s)
		})
	}
	for alert := range missing {
		t.Errorf("no fault fires %s", alert)
	}
}

func (f fault) play(t *testing.T, s *scene) {
	t.Helper()
	s.bundles.put(published{revision: "1", bundle: bundleOf(t, s.folder)})
	if f.before != nil {
		f.before(t, s)
	}
	s.up(t)
	s.shows(t, "stagedoor_policy_ready", func(value string) bool { return value == "1" })
	clients := f.clients
	if clients == 0 {
		clients = 4
	}
	s.meanwhile(t, clients, func(int64) string {
		time.Sleep(f.pause)
		return itemList
	})
	s.scrape(t, scrapesBefore)
	f.begin(t, s)
	for range scrapesDuring {
		if f.grows != "" {
			before := s.scrapes[len(s.scrapes)-1][f.grows]
			s.shows(t, f.grows, func(value string) bool { return value != before })
		}
		s.scrape(t, 1)
	}
	runbook(t, s, f.alert)
	f.end(t, s)
	s.scrape(t, scrapesAfter)
	// On a busy machine requests may be slow, whatever the fault.
	others := ""
	if f.alert != "StagedoorSlow" {
		others = `,alertname!="StagedoorSlow"`
	}
	firing := `count by (alertname) (ALERTS{alertstate="firing"` + others + `})`
	fires := map[string]float64{}
	for _, alert := range append([]string{f.alert}, f.also...) {
		fires[fmt.Sprintf(`{alertname=%q}`, alert)] = 1
	}
	s.promtool(t, []expects{
		{firing, scrapesBefore - 1, nil},
		{firing, scrapesBefore + scrapesDuring - 1, fires},
		{firing, len(s.scrapes) - 1, nil},
	})
}

// runbook runs the commands that the runbook has for all alerts and for this one, as
// they stand, while the fault lasts. journalctl is one of the test, since there is no
// journal: it prints the log of the process.
func runbook(t *testing.T, s *scene, alert string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "runbook.md"))
	must(t, err)
	head, _, _ := strings.Cut(string(page), "\n## ")
	_, part, _ := strings.Cut(string(page), "\n## "+alert+"\n")
	part, _, _ = strings.Cut(part, "\n## ")
	if s.once(t) == nil {
		head = "" // what is for all alerts asks a process that answers
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(part, -1)
	if len(blocks) == 0 {
		t.Fatalf("the runbook has no commands for %s", alert)
	}
	for _, block := range append(regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(head, -1), blocks...) {
		s.commands(t, alert, block[1])
	}
}

// commands runs commands of a page as they stand, in a folder where the policy is in
// policy. stagedoor, opa and journalctl are on the PATH.
func (s *scene) commands(t *testing.T, page, commands string) {
	t.Helper()
	bin, log := filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "log")
	writeConfig(t, log, s.log())
	if _, err := os.Stat(bin); err != nil {
		must(t, os.Mkdir(bin, 0o750))
		writeConfig(t, filepath.Join(bin, "journalctl"), "#!/bin/sh\n[ \"$*\" = '-u stagedoor -o cat' ] && exec cat "+log+"\n")
		must(t, os.Chmod(filepath.Join(bin, "journalctl"), 0o700))
		must(t, os.Symlink(s.binary, filepath.Join(bin, "stagedoor")))
		must(t, os.Symlink(filepath.Join(filepath.Dir(s.binary), "opa"), filepath.Join(bin, "opa")))
	}
	run := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	run.Dir = s.dir
	run.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "ADMIN="+s.process.Admin, "BACKSTAGE="+s.front.URL,
		"POLICY="+filepath.Join(s.dir, "policy"), "STAGEDOOR=http://"+s.address(), "OPERATOR_TOKEN="+operatorToken)
	text, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s\n%s", page, err, commands, text)
		return
	}
	t.Logf("%s%s", commands, text)
}

// bundleOf is a folder as stock OPA builds it.
func bundleOf(t *testing.T, folder string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if text, err := exec.CommandContext(t.Context(), filepath.Join("..", "..", "bin", "opa"), "build", "-b", folder, "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("opa build: %v\n%s", err, text)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	return text
}

// TestDashboard has promtool evaluate every expression of the dashboard over scrapes of a
// binary that is asked for everything: each has a sample that is a number.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "stagedoor.json"))
	must(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &dashboard))
	s := newScene(t, "", "")
	candidate := filepath.Join(s.dir, "candidate")
	denyAll(t, candidate)
	written, err := os.ReadFile(s.config)
	must(t, err)
	writeConfig(t, s.config, strings.Replace(string(written), "policy: {path:", fmt.Sprintf("policy: {shadow: {path: %q}, path:", candidate), 1))
	s.up(t)
	s.meanwhile(t, 1, always(itemList+","+itemUpdate))
	s.scrape(t, scrapesBefore)
	var expected []expects
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			expression := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
			// NaN is not at least anything.
			expected = append(expected, expects{
				"count((" + expression + ") >= -Inf) > bool 0", scrapesBefore - 1, map[string]float64{"{}": 1},
			})
		}
	}
	if len(expected) < 15 {
		t.Fatalf("%d expressions", len(expected))
	}
	s.promtool(t, expected)
}

// TestOperateCommands runs every command of docs/operate but those of the runbook, which
// need a fault, and those that verify a release, which need one.
func TestOperateCommands(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "operate", "*.md"))
	must(t, err)
	ran := 0
	for _, page := range pages {
		if filepath.Base(page) == "runbook.md" {
			continue
		}
		text, err := os.ReadFile(page)
		must(t, err)
		s := (*scene)(nil)
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if s == nil {
				s = newScene(t, "", "")
				s.up(t)
				s.history(t)
			}
			s.commands(t, page, block[1])
			ran++
		}
	}
	if ran < 3 {
		t.Errorf("%d blocks of commands", ran)
	}
}

// TestPrometheusReads has promtool read the configuration of docs/operate/README.md.
func TestPrometheusReads(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "README.md"))
	must(t, err)
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "stagedoor.rules.yaml"))
	must(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	writeConfig(t, filepath.Join(dir, "stagedoor.rules.yaml"), string(rules))
	writeConfig(t, config, block(t, string(page), "yaml prometheus.yml"))
	if text, err := exec.CommandContext(t.Context(), "promtool", "check", "config", config).CombinedOutput(); err != nil || !strings.Contains(string(text), "1 rule files found") {
		t.Errorf("%v\n%s", err, text)
	}
}

// history makes a checkout of the policy's folder, with a change that can be taken back.
func (s *scene) history(t *testing.T) {
	t.Helper()
	git := func(args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir = s.folder
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, text)
		}
	}
	git("init", "--quiet")
	git("config", "user.name", "ann")
	git("config", "user.email", "ann@example.com")
	for _, text := range []string{doorPolicy, doorPolicy + "# A change.\n"} {
		writeConfig(t, filepath.Join(s.folder, "policy.rego"), text)
		git("add", ".")
		git("commit", "--quiet", "-m", "A change")
	}
}
