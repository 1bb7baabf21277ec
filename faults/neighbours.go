//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
)

// policy is what all rows of neighbours decide by. Who is in which group matters, and so
// does what the todo plugin says of a todo.
const policy = `package p

import rego.v1

# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if input.permission.name in {"everybody", "revision.%[1]s"}

decision := {"result": "ALLOW"} if {
	input.permission.name == "devs"
	"group:default/devs" in input.identity.claims
}

decision := {"result": "ALLOW"} if {
	input.permission.name == "admins"
	"group:default/admins" in input.identity.claims
}

decision := {
	"result": "CONDITIONAL", "pluginId": "todo", "resourceType": "todo-item",
	"conditions": {"rule": "IS_OWNER", "resourceType": "todo-item", "params": {"userId": input.identity.user}},
} if startswith(input.permission.name, "todo.item.")
`

// askWell are the questions of a row, asked all the time: by known users and by new ones,
// on behalf of users, in person, by a plugin itself, and with a token that is forged.
func (r *rig) askWell() []*question {
	b := r.backstage
	forged := func() (string, error) {
		token, err := b.PluginToken(alice)
		return token[:len(token)-20] + "AAAAAAAAAAAAAAAAAAAA", err
	}
	const allow, deny = `"ALLOW"`, `"DENY"`
	whoever := []string{"auth", "remote"}
	return []*question{
		{name: "basic", bearer: onBehalf(b, alice), body: basic("everybody", "devs", "admins", "other"),
			results: []string{allow, allow, deny, deny}, needs: whoever},
		{name: "not in the group", bearer: onBehalf(b, carol), body: basic("devs", "admins"), results: []string{deny, deny}, needs: whoever},
		{name: "in person", bearer: func() (string, error) { return b.UserToken(bob) }, body: basic("devs", "admins"),
			results: []string{allow, deny}, needs: whoever},
		{name: "stranger", bearer: strangers(b), body: basic("everybody", "devs", "admins"), results: []string{allow, deny, deny}, needs: whoever},
		{name: "conditions", bearer: onBehalf(b, bob), body: about(""), results: []string{`"CONDITIONAL"`}, needs: whoever},
		{name: "applied", bearer: onBehalf(b, alice), body: about(`["todo-1","todo-2","todo-4"]`),
			results: []string{`["ALLOW","DENY","DENY"]`}, needs: append(whoever, "plugin")},
		{name: "applied for a stranger", bearer: strangers(b), body: about(`["todo-1","todo-2"]`),
			results: []string{`["DENY","DENY"]`}, needs: append(whoever, "plugin")},
		{name: "forged", bearer: forged, body: basic("everybody")},
	}
}

// neighbour is one that can be at fault.
type neighbour struct {
	name string
	what string
	// prepare starts it behind a gate, and returns what of the configuration leads there.
	prepare func(ctx context.Context, r *rig) (*gate, sections, error)
	// cold has the fault begin before stagedoor has met the neighbour.
	cold bool
	// within is how long coming back may take where that is not recoverWithin, by fault.
	within map[string]time.Duration
	// recovered is over when it has; nil where the question of a stranger tells it.
	recovered func(ctx context.Context, r *rig, g *gate, c *client) (time.Duration, error)
}

// recoverWithin is how long coming back may take: breakers pause two seconds, key sets
// too, and what polls does so each second, with more between after failures. A wrong key
// under the right kid stands for longer: whoever forges signatures has the set fetched no
// more often than that.
const (
	recoverWithin   = 15 * time.Second
	wrongKeysWithin = keyset.Cooldown + recoverWithin
)

// shortFaults are those of the short form, by neighbour: each fault once at least.
var shortFaults = map[string][]string{
	"auth":   {"refuses", "hangs", "wrong"},
	"keys":   {"garbage"},
	"plugin": {"hangs", "halfway", "flaps"},
	"bundle": {"wrong", "500", "refuses"},
	"remote": {"slow", "hangs", "wrong"},
	"log":    {"huge", "refuses"},
}

// neighbours are the rows of each neighbour with each fault.
func neighbours() []row {
	var all []row
	for _, n := range []neighbour{
		{name: "auth", what: "the auth backend: user info", prepare: behindGate("auth", `{"claims":{"sub":"user:default/root","ent":["user:default/root","group:default/admins","group:default/devs"]},"keys":[{"kty":"EC"}]}`)},
		{name: "keys", what: "the auth backend, before its keys are known", cold: true, prepare: behindGate("auth", wrongKeys),
			within: map[string]time.Duration{"wrong": wrongKeysWithin}},
		{name: "plugin", what: "the plugin that applies conditions", prepare: behindGate("todo", `{"items":[{"id":"1","result":"ALLOW"},{"id":"0","result":["ALLOW","ALLOW"]},{"id":"x","result":"ALLOW"}],"permissions":[],"rules":[]}`)},
		{name: "bundle", what: "the bundle server", prepare: bundles, recovered: newRevision},
		{name: "remote", what: "the remote OPA server", prepare: remote},
		{name: "log", what: "the receiver of the decision log", prepare: receiver, recovered: nextEvent},
	} {
		for _, fault := range faultNames {
			all = append(all, row{
				name: n.name + " " + fault, what: n.what, short: slices.Contains(shortFaults[n.name], fault), neighbour: true,
				run: func(ctx context.Context, r *rig) ([]figure, error) { return n.run(ctx, r, fault) },
			})
		}
	}
	return all
}

// wrongKeys is a key set with a key of nobody's.
const wrongKeys = `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"sample-user",` +
	`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// run asks before, during and after the fault.
func (n neighbour) run(ctx context.Context, r *rig, fault string) ([]figure, error) {
	g, more, err := n.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	name := n.name
	if n.cold {
		name = "auth"
		if err := g.set(ctx, fault); err != nil {
			return nil, err
		}
	}
	d, err := r.launch(ctx, more)
	if err != nil {
		return nil, err
	}
	c, questions := r.client(d.address), r.askWell()
	if !n.cold {
		if err := d.until(ctx, "is ready", func() bool { return d.isReady(ctx) }); err != nil {
			return nil, err
		}
		if err := c.first(ctx, questions); err != nil {
			return nil, err
		}
	}
	const askers, pause = 2, 20 * time.Millisecond
	l := c.startLoad(ctx, questions, askers, pause)
	defer l.end()
	l.fault.Store(&name)
	if err := g.set(ctx, fault); err != nil {
		return nil, err
	}
	if err := wait(ctx, r.duration); err != nil {
		return nil, err
	}
	if err := g.set(ctx, ""); err != nil {
		return nil, err
	}
	within := cmp.Or(n.within[fault], recoverWithin)
	recovery := figure{what: "recovered", want: "≤ " + within.String()}
	took, err := n.recover(ctx, r, g, c, questions, within)
	if err != nil {
		recovery.got = err.Error()
	} else {
		recovery.got, recovery.ok = fmt.Sprintf("%.1f s", took.Seconds()), true
	}
	// What waits for the neighbour has so long to end. A breaker opens for 2 seconds where the
	// calls that hung fail after the one that showed the recovery. Then all is as before.
	if err := wait(ctx, 2500*time.Millisecond); err != nil {
		return nil, err
	}
	l.fault.Store(nil)
	_ = wait(ctx, 500*time.Millisecond)
	l.end()
	figures := append(l.figures(), recovery)
	figures = slices.Insert(figures, 3, figure{what: "errors", got: strconv.Itoa(l.errors), want: "any", ok: true})
	if said := l.said(); said != "" {
		figures[len(figures)-1].got += "\n    " + said
	}
	return figures, nil
}

func (n neighbour) recover(
	ctx context.Context, r *rig, g *gate, c *client, questions []*question, within time.Duration,
) (time.Duration, error) {
	if n.recovered != nil {
		return n.recovered(ctx, r, g, c)
	}
	// A stranger's, so that nothing is remembered of it.
	return c.recovers(ctx, questions[slices.IndexFunc(questions, func(q *question) bool { return q.name == "applied for a stranger" })], within)
}

// behindGate puts a plugin of the sample Backstage behind a gate, and the policy into a
// folder.
func behindGate(plugin, wrong string) func(context.Context, *rig) (*gate, sections, error) {
	return func(ctx context.Context, r *rig) (*gate, sections, error) {
		g, err := r.newGate(ctx, r.backstage.URL+"/api/"+plugin, answers("application/json", wrong))
		if err != nil {
			return nil, nil, err
		}
		more, err := r.policyFolder()
		return g, merged(more, sections{
			"discovery": sections{"endpoints": []any{sections{"target": g.URL, "plugins": []string{plugin}}}},
		}), err
	}
}

// policyFolder writes the policy as a bundle into a folder.
func (r *rig) policyFolder() (sections, error) {
	return r.folder(map[string]string{
		".manifest": `{"revision": "1", "roots": ["p"]}`, "p.rego": fmt.Sprintf(policy, "1"),
	})
}

// folder writes files into a folder that is the policy's.
func (r *rig) folder(files map[string]string) (sections, error) {
	dir := filepath.Join(r.dir, fmt.Sprintf("policy-%d", r.started.Add(1)))
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return sections{"stagedoor": sections{"policy": sections{"path": dir}}}, nil
}

// bundles has the policy come from a server, signed. Wrong is a policy that allows
// everything, signed by somebody else.
func bundles(ctx context.Context, r *rig) (*gate, sections, error) {
	s, err := r.newPublisher()
	if err != nil {
		return nil, nil, err
	}
	evil, err := signedBundle("1", "package p\n\n# METADATA\n# entrypoint: true\ndecision := {\"result\": \"ALLOW\"}\n", "another's key")
	if err != nil {
		return nil, nil, err
	}
	g, err := r.newGateTo(ctx, s, answers("application/gzip", string(evil)))
	if err != nil {
		return nil, nil, err
	}
	return g, sections{"opa": bundlesFrom(g)}, nil
}

// bundlesFrom is OPA's configuration for the signed bundle of a publisher.
func bundlesFrom(g *gate) sections {
	return sections{
		"services": sections{"s": sections{"url": g.URL, "response_header_timeout_seconds": 2}},
		"keys":     sections{"k": sections{"algorithm": "HS256", "key": signingKey}},
		"bundles": sections{"authz": sections{
			"service": "s", "resource": "authz", "signing": sections{"keyid": "k"},
			"polling": sections{"min_delay_seconds": 1, "max_delay_seconds": 1},
		}},
	}
}

// newRevision publishes another revision, and is over when it serves.
func newRevision(ctx context.Context, r *rig, g *gate, c *client) (time.Duration, error) {
	if err := g.healthy.(*publisher).publish("2"); err != nil {
		return 0, err
	}
	return newRevisionServes(ctx, r, c)
}

// remote has the stock OPA server decide.
func remote(ctx context.Context, r *rig) (*gate, sections, error) {
	url, err := r.startOPA(ctx, fmt.Sprintf(policy, "1"))
	if err != nil {
		return nil, nil, err
	}
	g, err := r.newGate(ctx, url, answers("application/json", `{"result":{"allow":true,"result":"PERMIT"}}`))
	if err != nil {
		return nil, nil, err
	}
	return g, sections{"stagedoor": sections{"policy": sections{
		"entrypoint": "p/decision", "remote": sections{"url": g.URL},
	}}}, nil
}

// startOPA starts the stock OPA server with a policy.
func (r *rig) startOPA(ctx context.Context, policy string) (string, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.dir, "remote.rego")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return "", err
	}
	p, err := r.start("opa", exec.Command(r.opa, "run", "--server", "--addr", address, "--log-level", "error", file))
	if err != nil {
		return "", err
	}
	url := "http://" + address
	return url, p.until(ctx, "serves", func() bool {
		status, _, err := fetch(ctx, url+"/health")
		return err == nil && status == http.StatusOK
	})
}

// events is a receiver of decision logs.
type events struct {
	mutex sync.Mutex
	calls int
}

// ServeHTTP implements [http.Handler].
func (e *events) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if n > 0 && strings.HasPrefix(r.URL.Path, "/logs") {
		e.calls++
	}
}

func (e *events) received() int {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.calls
}

// receiver takes a decision log.
func receiver(ctx context.Context, r *rig) (*gate, sections, error) {
	g, err := r.newGateTo(ctx, &events{}, answers("text/html", "<html>no log here</html>"))
	if err != nil {
		return nil, nil, err
	}
	more, err := r.policyFolder()
	return g, merged(more, sections{"opa": sections{
		"services":      sections{"l": sections{"url": g.URL, "response_header_timeout_seconds": 2}},
		"decision_logs": sections{"service": "l", "reporting": sections{"min_delay_seconds": 1, "max_delay_seconds": 1}},
	}}), err
}

// nextEvent is over when events arrive.
func nextEvent(ctx context.Context, _ *rig, g *gate, _ *client) (time.Duration, error) {
	e := g.healthy.(*events)
	before, begun := e.received(), time.Now()
	for e.received() == before {
		if time.Since(begun) > recoverWithin {
			return 0, errNotThere
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return time.Since(begun), nil
}

// publisher serves one signed bundle.
type publisher struct {
	current atomic.Pointer[published]
}

type published struct {
	etag   string
	bundle []byte
}

func (r *rig) newPublisher() (*publisher, error) {
	p := &publisher{}
	err := p.publish("1")
	return p, err
}

func (p *publisher) publish(revision string) error {
	b, err := signedBundle(revision, fmt.Sprintf(policy, revision), signingKey)
	if err == nil {
		p.current.Store(&published{`"` + revision + `"`, b})
	}
	return err
}

// ServeHTTP implements [http.Handler].
func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := p.current.Load()
	w.Header().Set("ETag", now.etag)
	if r.Header.Get("If-None-Match") == now.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	_, _ = w.Write(now.bundle)
}
