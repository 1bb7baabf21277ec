package conditions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// fakePlugin speaks the protocol of createPermissionIntegrationRouter. It serves every
// plugin id at /api/{id}. Its resources are of type "thing" or "wall" and are named
// by their ref; rule ONE_OF {refs} holds for those that are listed.
type fakePlugin struct {
	// old makes it refuse arrays, as before plugin-permission-node 0.10.0.
	old bool
	// fault, where it returns true, has answered in the place of the plugin. n
	// counts the calls of this plugin id, from 1.
	fault func(w http.ResponseWriter, r *http.Request, id string, n int) bool
	// metadata is the body of the metadata endpoint, 404 where empty.
	metadata string

	mu    sync.Mutex
	calls map[string][]fakeCall // by plugin id
}

type fakeCall struct {
	token string
	body  string
	items []fakeItem
	get   bool
}

type fakeItem struct {
	ID           string          `json:"id"`
	ResourceRef  json.RawMessage `json:"resourceRef"`
	ResourceType string          `json:"resourceType"`
	Conditions   any             `json:"conditions"`
}

func (p *fakePlugin) callsOf(id string) []fakeCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls[id])
}

func (p *fakePlugin) record(id string, c fakeCall) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == nil {
		p.calls = map[string][]fakeCall{}
	}
	p.calls[id] = append(p.calls[id], c)
	return len(p.calls[id])
}

func (p *fakePlugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	call := fakeCall{token: r.Header.Get("Authorization"), body: string(body), get: r.Method == http.MethodGet}
	var request struct {
		Items []fakeItem `json:"items"`
	}
	decodeErr := json.Unmarshal(body, &request)
	call.items = request.Items
	n := p.record(id, call)
	switch {
	case p.fault != nil && p.fault(w, r, id, n):
	case call.get && path == ".well-known/backstage/permissions/metadata" && p.metadata != "":
		respond(w, 200, p.metadata)
	case r.Method != http.MethodPost || path != ".well-known/backstage/permissions/apply-conditions":
		respond(w, 404, "")
	case len(body) > 102400:
		respond(w, 413, backstageError("PayloadTooLargeError", "request entity too large"))
	case r.Header.Get("Content-Type") != "application/json" || decodeErr != nil:
		respond(w, 400, backstageError("InputError", "bad body"))
	default:
		p.apply(w, request.Items)
	}
}

func (p *fakePlugin) apply(w http.ResponseWriter, items []fakeItem) {
	type answered struct {
		ID     string `json:"id"`
		Result any    `json:"result"`
	}
	var out struct {
		Items []answered `json:"items"`
	}
	for _, item := range items {
		c, err := criteria.Parse(item.Conditions)
		if err != nil || (item.ResourceType != "thing" && item.ResourceType != "wall") {
			respond(w, 400, backstageError("InputError", "Unexpected resource types: "+item.ResourceType))
			return
		}
		var one string
		var many []string
		if json.Unmarshal(item.ResourceRef, &one) == nil {
			out.Items = append(out.Items, answered{item.ID, decide(c, one)})
			continue
		}
		if json.Unmarshal(item.ResourceRef, &many) != nil || len(many) == 0 || p.old {
			respond(w, 400, backstageError("InputError", "Expected string, received array"))
			return
		}
		results := []string{}
		for _, ref := range many {
			results = append(results, decide(c, ref))
		}
		out.Items = append(out.Items, answered{item.ID, results})
	}
	slices.Reverse(out.Items) // joined by id, not by position
	body, _ := json.Marshal(out)
	respond(w, 200, string(body))
}

func decide(c criteria.Criteria, ref string) string {
	holds := c.Eval(func(r criteria.Rule) bool {
		var params struct{ Refs []string }
		if err := json.Unmarshal([]byte(r.Params), &params); err != nil {
			panic(err)
		}
		return slices.Contains(params.Refs, ref)
	})
	if holds {
		return "ALLOW"
	}
	return "DENY"
}

func respond(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func backstageError(name, message string) string {
	body, _ := json.Marshal(map[string]any{"error": map[string]string{"name": name, "message": message}})
	return string(body)
}

// serve starts p on a loopback port and returns a client for it.
func serve(t testing.TB, p *fakePlugin) *Client {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return newClient(t, Options{}, server.URL)
}

func serveWith(t testing.TB, p *fakePlugin, o Options) *Client {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return newClient(t, o, server.URL)
}

func newClient(t testing.TB, o Options, baseURL string) *Client {
	t.Helper()
	c, _ := newLoggedClient(t, o, baseURL)
	return c
}

// newLoggedClient also returns what the client logs, at level debug.
func newLoggedClient(t testing.TB, o Options, baseURL string) (*Client, *fixture.Log) {
	t.Helper()
	d, err := discovery.New(discovery.Options{BaseURL: baseURL})
	if err != nil {
		t.Fatal(err)
	}
	log, logged := fixture.NewLog()
	c, err := New(o, d, token("service"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, logged
}

// token gives tokens that name whom they are for: "{who}-for-{plugin}".
func token(who string) TokenSource {
	return func(_ context.Context, pluginID string) (string, error) { return who + "-for-" + pluginID, nil }
}

func ann() Caller { return Caller{Subject: "ann", Token: token("ann")} }

// oneOf are conditions that hold for these refs.
func oneOf(refs ...string) criteria.Criteria {
	if refs == nil {
		refs = []string{}
	}
	params, _ := json.Marshal(map[string]any{"refs": refs})
	return leaf("thing", "ONE_OF", string(params))
}

func leaf(resourceType, name, params string) criteria.Criteria {
	rule := criteria.Rule{Name: name, ResourceType: resourceType, Params: params}
	return criteria.Criteria{Op: criteria.Leaf, Rule: rule}
}

func not(c criteria.Criteria) criteria.Criteria {
	return criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{c}}
}

func ask(pluginID string, c criteria.Criteria, refs ...string) Question {
	return Question{
		Decision: wire.Decision{Result: wire.Conditional, PluginID: pluginID, ResourceType: "thing", Conditions: c},
		Refs:     refs,
	}
}

// memoryNet is a network without sockets, for tests under synctest.
type memoryNet struct {
	accepted chan net.Conn
	// refuse is asked before each dial, with the number of dials so far.
	refuse func(n int) error
	dials  int
	mu     sync.Mutex
}

func (m *memoryNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	m.mu.Lock()
	n := m.dials
	m.dials++
	m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(n); err != nil {
			return nil, err
		}
	}
	client, server := net.Pipe()
	select {
	case m.accepted <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memoryNet) Accept() (net.Conn, error) {
	conn, ok := <-m.accepted
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (m *memoryNet) Close() error   { close(m.accepted); return nil }
func (m *memoryNet) Addr() net.Addr { return &net.TCPAddr{} }

// serveMemory is serve without sockets, to be used inside a synctest bubble. It
// must be ended by the returned function.
func serveMemory(t *testing.T, p *fakePlugin, o Options) (*Client, *memoryNet, *fixture.Log, func()) {
	t.Helper()
	network := &memoryNet{accepted: make(chan net.Conn)}
	server := &http.Server{Handler: p}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(network)
	}()
	c, logged := newLoggedClient(t, o, "http://plugins.test")
	c.transport.DialContext = network.dial
	return c, network, logged, func() {
		c.Close()
		_ = server.Close()
		<-served
	}
}

func results(o Outcome) string {
	if o.Err != nil {
		return fmt.Sprintf("error: %v", o.Err)
	}
	var s strings.Builder
	for _, r := range o.Results {
		s.WriteByte("DAC"[r])
	}
	return s.String()
}
