//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// floods are the rows in which some take what others need.
func floods() []row {
	return []row{
		{name: "hung plugin, 1100 waiting", what: "others, while so many wait for a plugin that does not answer", alone: true, short: true,
			run: func(ctx context.Context, r *rig) ([]figure, error) { return hungPlugin(ctx, r, 1100, 0) }},
		{name: "hung plugin, 200 a second", what: "others, while so many new ones ask about it", alone: true,
			run: func(ctx context.Context, r *rig) ([]figure, error) { return hungPlugin(ctx, r, 0, 200) }},
		{name: "slow decisions", what: "32 clients with decisions of a second: another's first decision", alone: true, short: true, run: slowDecisions},
		{name: "slow remote", what: "two clients with slow items at a remote OPA server: others", alone: true, short: true, run: slowRemote},
		{name: "ten times its share", what: "one caller with ten times its slots: another's p99 against idle", alone: true, run: tenTimes},
		{name: "large answers", what: "eight requests with answers of 225 MB", alone: true, run: largeAnswers},
		{name: "clients that do not read", what: "105 of them, inFlight 100: others", alone: true, short: true, run: notReading},
		{name: "few files", what: "ulimit -n 128 and 200 idle connections: new requests", alone: true, short: true, run: fewFiles},
	}
}

// soon is how quickly others must be answered.
const soon = time.Second

// within counts a question's answers that are as without faults, and come soon.
func (c *client) within(ctx context.Context, limit time.Duration, q *question, d, pause time.Duration) (asked, good int, worst time.Duration, said string) {
	for begun := time.Now(); time.Since(begun) < d && ctx.Err() == nil; _ = wait(ctx, pause) {
		v, took, why := c.put(ctx, q)
		asked++
		worst = max(worst, took)
		if v == same && took <= limit {
			good++
		} else if said == "" {
			said = fmt.Sprintf("%v: %s", took, why)
		}
	}
	return asked, good, worst, said
}

// share is a figure of how many were answered.
func share(what string, asked, good int, worst time.Duration, said string) figure {
	f := figure{
		what: what, got: fmt.Sprintf("%d of %d, slowest %d ms", good, asked, worst.Milliseconds()), want: "all", ok: asked > 0 && good == asked,
	}
	if said != "" {
		f.got += "\n    " + said
	}
	return f
}

// hungPlugin has many ask about a plugin that hangs: some that wait all the time, or some
// new ones each second. Others ask meanwhile, by the same plugin's tokens.
func hungPlugin(ctx context.Context, r *rig, waiting, perSecond int) ([]figure, error) {
	g, more, err := behindGate("todo", "")(ctx, r)
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, merged(more, sections{"stagedoor": sections{"conditions": sections{"timeout": "10s"}}}))
	if err != nil {
		return nil, err
	}
	c, questions := r.client(d.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	if err := g.set(ctx, "hangs"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	// Made before, so that making them takes nothing of what is measured. Each asks about
	// another todo, since equal calls of a plugin are made once.
	const users = 50
	requests := make([][]byte, max(waiting, 500))
	for n := range requests {
		token, err := r.backstage.PluginToken(fmt.Sprintf("user:default/u%d", n%users))
		if err != nil {
			return nil, err
		}
		requests[n] = raw(token, about(fmt.Sprintf(`["todo-%d"]`, n)))
	}
	ask := func(n int) {
		s := &speaker{address: d.address}
		_, _, _ = s.ask(requests[n%len(requests)])
		s.close()
	}
	for n := range waiting {
		group.Go(func() {
			for ctx.Err() == nil {
				ask(n)
				_ = wait(ctx, 5*time.Second)
			}
		})
	}
	if perSecond > 0 {
		group.Go(func() {
			for n := 0; wait(ctx, time.Second/time.Duration(perSecond)) == nil; n++ {
				group.Go(func() { ask(n) })
			}
		})
	}
	// Until those that came first wait, or have found that the plugin is left alone.
	var held, most float64
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
		if held, err = d.metric(ctx, "stagedoor_plugin_calls_waiting", ""); err != nil {
			return nil, err
		}
		if most = max(most, held); waiting > 0 && held >= float64(waiting)*7/10 || perSecond > 0 && time.Since(begun) > 2*time.Second {
			break
		}
	}
	asked, good, worst, said := c.within(ctx, r.patience(soon), questions[0], max(r.duration, 2*time.Second), 10*time.Millisecond)
	return []figure{
		{what: "calls that wait for the plugin", got: fmt.Sprint(most), want: "many at the first", ok: waiting == 0 || most > 0},
		share("others answered within 1 s", asked, good, worst, said),
	}, nil
}

// slowPolicy takes longer than a decision may for each name that begins with slow.
const slowPolicy = `package p

import rego.v1

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if startswith(input.permission.name, "quick")

decision := {"result": "ALLOW"} if {
	startswith(input.permission.name, "slow")
	count([1 | some a in numbers.range(1, 4000); some b in numbers.range(1, 4000); a * b == -1]) == 1
}
`

// slowly has clients ask for decisions that take a second, each another one.
func (c *client) slowly(ctx context.Context, r *rig, clients int, group *sync.WaitGroup, asked *atomic.Int64) {
	for n := range clients {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				token, err := r.backstage.PluginToken(fmt.Sprintf("user:default/slow-%d", n))
				if err != nil {
					return
				}
				_, _, _ = c.post(ctx, token, basic(fmt.Sprintf("slow.%d.%d", n, i)))
				asked.Add(1)
			}
		})
	}
}

func slowDecisions(ctx context.Context, r *rig) ([]figure, error) {
	more, err := r.folder(map[string]string{".manifest": `{"revision": "1", "roots": ["p"]}`, "p.rego": slowPolicy})
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, more)
	if err != nil {
		return nil, err
	}
	c := r.client(d.address)
	quick := func(n int) *question {
		return &question{name: "quick", bearer: onBehalf(r.backstage, carol), body: basic(fmt.Sprintf("quick.%d", n)), results: []string{`"ALLOW"`}}
	}
	if err := c.first(ctx, []*question{quick(0)}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var asked atomic.Int64
	c.slowly(ctx, r, 32, &group, &asked)
	if err := wait(ctx, time.Second); err != nil {
		return nil, err
	}
	t := &tally{}
	for begun, n := time.Now(), 1; time.Since(begun) < max(2*r.duration, 4*time.Second); n++ {
		v, took, said := c.put(ctx, quick(n))
		t.add(v, took, said, false)
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return append(t.figures(),
		atMost("p50 of a first decision", t.percentile(50), r.patience(50*time.Millisecond)),
		atMost("p99 of a first decision", t.percentile(99), r.patience(500*time.Millisecond)),
	), nil
}

// patience is how long something may take. In CI others may want the processors, and what
// the rows are about took much longer, or failed.
func (h *house) patience(d time.Duration) time.Duration {
	if h.short {
		return 10 * d
	}
	return d
}

// atMost is a figure of a time.
func atMost(what string, got, most time.Duration) figure {
	return figure{
		what: what, got: fmt.Sprintf("%.1f ms", got.Seconds()*1e3), want: fmt.Sprintf("≤ %d ms", most.Milliseconds()), ok: got <= most,
	}
}

func slowRemote(ctx context.Context, r *rig) ([]figure, error) {
	url, err := r.startOPA(ctx, slowPolicy)
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, sections{"stagedoor": sections{"policy": sections{"entrypoint": "p/decision", "remote": sections{"url": url}}}})
	if err != nil {
		return nil, err
	}
	c := r.client(d.address)
	q := &question{name: "quick", bearer: onBehalf(r.backstage, carol), body: basic("quick.1"), results: []string{`"ALLOW"`}}
	if err := c.first(ctx, []*question{q}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var asked atomic.Int64
	c.slowly(ctx, r, 2, &group, &asked)
	t := &tally{}
	for begun := time.Now(); time.Since(begun) < max(2*r.duration, 5*time.Second); _ = wait(ctx, 50*time.Millisecond) {
		v, took, said := c.put(ctx, q)
		t.add(v, took, said, false)
	}
	return append(t.figures(), figure{what: "slow items meanwhile", got: strconv.FormatInt(asked.Load(), 10), want: "some", ok: asked.Load() > 0}), nil
}

// flooding is what this program does as a process of its own: args are an address, a
// number of connections, and for how long; the requests come by standard input, one a
// line with \r and \n escaped.
func flooding(ctx context.Context, args []string) error {
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var requests [][]byte
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text, err := strconv.Unquote(lines.Text())
		if err != nil {
			return err
		}
		requests = append(requests, []byte(text))
	}
	var group sync.WaitGroup
	var next, answered atomic.Int64
	for range connections {
		group.Go(func() {
			s := &speaker{address: args[0]}
			defer s.close()
			for ctx.Err() == nil {
				if _, _, err := s.ask(requests[int(next.Add(1))%len(requests)]); err != nil {
					_ = wait(ctx, 10*time.Millisecond)
				}
				answered.Add(1)
			}
		})
	}
	<-ctx.Done()
	group.Wait()
	fmt.Println(answered.Load())
	return nil
}

// speaker asks over a connection that it keeps, spends little, and never asks twice.
type speaker struct {
	address    string
	connection net.Conn
	reader     *bufio.Reader
}

func (s *speaker) ask(request []byte) (status int, body []byte, err error) {
	if s.connection == nil {
		if s.connection, err = net.DialTimeout("tcp", s.address, 10*time.Second); err != nil {
			s.connection = nil
			return 0, nil, err
		}
		s.reader = bufio.NewReader(s.connection)
	}
	_ = s.connection.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = s.connection.Write(request); err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(s.reader, nil); err == nil {
			body, err = io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err == nil {
				if answer.Close {
					s.close()
				}
				return answer.StatusCode, body, nil
			}
		}
	}
	s.close()
	return 0, nil, err
}

func (s *speaker) close() {
	if s.connection != nil {
		_ = s.connection.Close()
	}
	s.connection = nil
}

// raw is a request in bytes.
func raw(token, body string) []byte {
	return fmt.Appendf(nil, "POST /api/permission/authorize HTTP/1.1\r\nHost: stagedoor\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body)
}

// tenTimes has one caller use ten times its share of the slots. Both users have one limited
// token each, as in Backstage, and each request a plugin's token of its own. stagedoor has
// one processor and those who ask have another, as they would have another machine: where
// both want the same one, it is the kernel that lets a request or an answer wait.
func tenTimes(ctx context.Context, r *rig) ([]figure, error) {
	const slots, times, most, busy = 32, 10, 3, 0.8
	const server, clients = "0", "1" // processors
	self, everywhere := strconv.Itoa(os.Getpid()), fmt.Sprintf("0-%d", runtime.NumCPU()-1)
	set, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", clients, self).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("taskset, which wants two processors: %w: %s", err, set)
	}
	r.later(func() { _ = exec.Command("taskset", "-a", "-c", "-p", everywhere, self).Run() })
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	file, err := r.configure(merged(more, sections{"stagedoor": sections{"limits": sections{"inFlight": slots}}}))
	if err != nil {
		return nil, err
	}
	d, err := r.serve(ctx, exec.Command("taskset", "-c", server, r.binary, "serve", "--config", file))
	if err != nil {
		return nil, err
	}
	if err := d.until(ctx, "is ready", func() bool { return d.isReady(ctx) }); err != nil {
		return nil, err
	}
	c, questions := r.client(d.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	tokensOf := func(user string) (func() (string, error), error) {
		limited, err := r.backstage.LimitedToken(user)
		return func() (string, error) { return r.backstage.OnBehalfOf(limited) }, err
	}
	another := &question{name: "another", body: questions[1].body, results: questions[1].results}
	if another.bearer, err = tokensOf(carol); err != nil {
		return nil, err
	}
	one, err := tokensOf(bob)
	if err != nil {
		return nil, err
	}
	measure := func(length time.Duration) *tally {
		t := &tally{}
		for begun := time.Now(); time.Since(begun) < length && ctx.Err() == nil; _ = wait(ctx, 5*time.Millisecond) {
			v, took, said := c.put(ctx, another)
			t.add(v, took, said, false)
		}
		return t
	}
	length := max(r.duration, 4*time.Second)
	idle := measure(length)
	var requests strings.Builder
	for range 2000 {
		token, err := one()
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(&requests, strconv.Quote(string(raw(token, basic("everybody", "devs", "admins")))))
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command("nice", "-n", "10", program, "flood", d.address, strconv.Itoa(slots/2*times))
	command.Stdin = strings.NewReader(requests.String())
	flood, err := r.start("flood", command)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, time.Second); err != nil {
		return nil, err
	}
	requestsBefore, secondsBefore, err := d.served(ctx)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	flooded := measure(length)
	requestsAfter, secondsAfter, err := d.served(ctx)
	if err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	used := (secondsAfter - secondsBefore) / took
	if _, err := flood.terminate(20 * time.Second); err != nil {
		return nil, err
	}
	ratio := flooded.percentile(99).Seconds() / idle.percentile(99).Seconds()
	return append(flooded.figures(),
		figure{what: "requests a second meanwhile", got: fmt.Sprintf("%.0f", (requestsAfter-requestsBefore)/took), want: "many", ok: true},
		figure{what: "its processor in use", got: fmt.Sprintf("%.0f %%", 100*used), want: fmt.Sprintf("≥ %.0f %%", 100*busy), ok: used >= busy},
		figure{what: "p50 idle, flooded", got: fmt.Sprintf("%.2f, %.2f ms", idle.percentile(50).Seconds()*1e3, flooded.percentile(50).Seconds()*1e3), want: "–", ok: true},
		figure{what: "p99 idle, flooded", got: fmt.Sprintf("%.2f, %.2f ms", idle.percentile(99).Seconds()*1e3, flooded.percentile(99).Seconds()*1e3), want: "–", ok: true},
		figure{what: "p99 against idle", got: fmt.Sprintf("%.1f ×", ratio), want: fmt.Sprintf("≤ %d ×", most), ok: ratio <= most},
	), nil
}

// served is how many requests it has answered, and how many seconds of a processor it has used.
func (d *door) served(ctx context.Context) (requests, seconds float64, err error) {
	if requests, err = d.metric(ctx, "stagedoor_requests_total", ""); err != nil {
		return 0, 0, err
	}
	seconds, err = d.metric(ctx, "process_cpu_seconds_total", "")
	return requests, seconds, err
}

// largePolicy answers one permission with so many bytes of conditions.
func largePolicy(size int) map[string]string {
	return map[string]string{
		".manifest": `{"revision": "1", "roots": ["p"]}`,
		"p.rego": `package p

import rego.v1

# METADATA
# entrypoint: true
decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "HAS_STATUS", "resourceType": "todo-item", "params": {"statuses": [data.p.large]}},
} if input.permission.name == "large"

decision := {"result": "ALLOW"} if input.permission.name != "large"
`,
		"p/data.json": `{"large": "` + strings.Repeat("0123456789abcdef", size/16) + `"}`,
	}
}

func largeItems(n int) string {
	const item = `{"id":"1","permission":{"type":"resource","name":"large","attributes":{},"resourceType":"todo-item"}}`
	return `{"items":[` + strings.Repeat(item+",", n-1) + item + `]}`
}

func largeAnswers(ctx context.Context, r *rig) ([]figure, error) {
	const items, size, requests, most = 7000, 32 << 10, 8, 300 << 20 // 225 MB together
	more, err := r.folder(largePolicy(size))
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, more)
	if err != nil {
		return nil, err
	}
	c := r.client(d.address)
	q := &question{name: "other", bearer: onBehalf(r.backstage, carol), body: basic("x"), results: []string{`"ALLOW"`}}
	if err := c.first(ctx, []*question{q}); err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	var named atomic.Int64
	said := make([]string, requests)
	const rounds = 3
	for n := range requests {
		group.Go(func() {
			for range rounds {
				token, err := r.backstage.PluginToken(alice)
				if err != nil {
					return
				}
				status, body, err := c.post(ctx, token, largeItems(items))
				if err == nil && status == http.StatusRequestEntityTooLarge && strings.Contains(string(body), "stagedoor.limits.answer") {
					named.Add(1)
				} else {
					said[n] = fmt.Sprintf("%d %v %.200s", status, err, body)
				}
			}
		})
	}
	group.Wait()
	_, peak, err := d.resident()
	if err != nil {
		return nil, err
	}
	// A large answer within the bound, as many at a time, takes what one budget has.
	for range requests {
		group.Go(func() {
			if token, err := r.backstage.PluginToken(bob); err == nil {
				_, _, _ = c.post(ctx, token, largeItems(900)) // 29 MB
			}
		})
	}
	group.Wait()
	_, after, err := d.resident()
	v, _, why := c.put(ctx, q)
	return []figure{
		{what: "413 that name the limit", got: fmt.Sprintf("%d of %d%s", named.Load(), requests*rounds, strings.TrimRight("\n"+strings.Join(said, ""), "\n")),
			want: "all", ok: named.Load() == requests*rounds},
		{what: "most resident memory", got: fmt.Sprintf("%d MB", peak>>20), want: "≤ 300 MB", ok: peak <= most},
		{what: "with eight answers of 29 MB", got: fmt.Sprintf("%d MB", after>>20), want: "≤ 500 MB", ok: after <= 500<<20},
		{what: "another is answered afterwards", got: fmt.Sprintf("%t %s", v == same, why), want: "true", ok: v == same},
	}, err
}

func notReading(ctx context.Context, r *rig) ([]figure, error) {
	const clients, slots = 105, 100
	more, err := r.folder(largePolicy(32 << 10))
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, merged(more, sections{"stagedoor": sections{"limits": sections{"inFlight": slots}}}))
	if err != nil {
		return nil, err
	}
	c := r.client(d.address)
	q := &question{name: "victim", bearer: onBehalf(r.backstage, carol), body: basic("x"), results: []string{`"ALLOW"`}}
	if err := c.first(ctx, []*question{q}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var begun atomic.Int64
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				doNotRead(ctx, r, d.address, &begun)
			}
		})
	}
	for n := 0; begun.Load() < clients/3 && n < 500; n++ {
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	asked, good, worst, said := c.within(ctx, r.patience(soon), q, max(2*r.duration, 4*time.Second), 20*time.Millisecond)
	return []figure{
		{what: "answers that are not read", got: strconv.FormatInt(begun.Load(), 10), want: "many", ok: begun.Load() > 0},
		share("victim answered within 1 s", asked, good, worst, said),
	}, nil
}

// doNotRead asks for 8 MB, reads the first bytes, and no more until the other side closes.
func doNotRead(ctx context.Context, r *rig, address string, begun *atomic.Int64) {
	token, err := r.backstage.PluginToken(alice)
	if err != nil {
		return
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = wait(ctx, 100*time.Millisecond)
		return
	}
	defer connection.Close()
	_, _ = connection.Write(raw(token, largeItems(250)))
	first := make([]byte, 12)
	_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(connection, first); err != nil || string(first) != "HTTP/1.1 200" {
		_ = wait(ctx, time.Second)
		return
	}
	begun.Add(1)
	_ = wait(ctx, 12*time.Second) // longer than writing may take
}

func fewFiles(ctx context.Context, r *rig) ([]figure, error) {
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	file, err := r.configure(more)
	if err != nil {
		return nil, err
	}
	d, err := r.serve(ctx, exec.Command("sh", "-c", "ulimit -n 128; exec \"$0\" serve --config \"$1\"", r.binary, file))
	if err != nil {
		return nil, err
	}
	q := r.askWell()[0]
	if err := r.client(d.address).first(ctx, []*question{q}); err != nil {
		return nil, err
	}
	token, err := r.backstage.PluginToken(alice)
	if err != nil {
		return nil, err
	}
	for n := range 200 {
		connection, err := net.DialTimeout("tcp", d.address, 20*time.Second)
		if err != nil {
			return nil, err
		}
		r.later(func() { _ = connection.Close() })
		if n%2 == 0 { // it asks once, and stays
			_, _ = connection.Write(raw(token, q.body))
		}
	}
	asked, good, worst, said := 0, 0, time.Duration(0), ""
	for range 100 {
		c := r.client(d.address) // a connection of its own
		v, took, why := c.put(ctx, q)
		asked, worst = asked+1, max(worst, took)
		if v == same {
			good++
		} else {
			said = why
		}
		c.http.CloseIdleConnections()
	}
	return []figure{share("new requests answered", asked, good, worst, said)}, nil
}
