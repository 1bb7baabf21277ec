package adapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter"
	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/remote"
	"github.com/stagedoor/stagedoor/adapter/sample"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/bundles"
	"github.com/stagedoor/stagedoor/rego"
)

// site is a stagedoor with a sample Backstage around it.
type site struct {
	url       string // of the permission API
	admin     string
	backstage *sample.Backstage
	status    func() supply.Status
	registry  *prometheus.Registry
	stranger  *sample.Key
	client    *http.Client
	log       *fixture.Log
	server    *adapter.Server
}

type siteOptions struct {
	policyDir, entrypoint string // none: the bundle of --dev
	denyOnError           bool
	asTheyCome            bool // permissions, whatever metadata says
	inFlight              int64
	identity              identity.Options
	// between puts something between stagedoor and plugins: where each is to be
	// found, given where the sample Backstage is.
	between    func(backstage string) map[string]string
	conditions conditions.Options
	// opa is OPA's configuration.
	opa           map[string]any
	auditRequired bool
	strict        bool // readiness
	dataRoots     []string
	dataBytes     int64
	remote        *remote.Options
}

// newSite starts everything on loopback; it ends with the test.
func newSite(t testing.TB, o siteOptions) *site {
	t.Helper()
	s := &site{client: &http.Client{}, log: &fixture.Log{}, registry: prometheus.NewRegistry()}
	backstage, err := sample.New(t.Context())
	check(t, err)
	t.Cleanup(backstage.Close)
	s.backstage = backstage
	s.stranger, err = sample.NewKey("stranger")
	check(t, err)
	catalog := httptest.NewServer(catalogPlugin(t))
	t.Cleanup(catalog.Close)

	logger := logrus.New()
	logger.SetOutput(s.log)
	logger.SetLevel(logrus.DebugLevel)
	logger.SetFormatter(&logrus.JSONFormatter{})
	log := logrus.NewEntry(logger)
	endpoints := []discovery.Endpoint{{Target: catalog.URL, Plugins: []string{"catalog"}}}
	if o.between != nil {
		for plugin, target := range o.between(backstage.URL) {
			endpoints = append(endpoints, discovery.Endpoint{Target: target, Plugins: []string{plugin}})
		}
	}
	places, err := discovery.New(discovery.Options{BaseURL: backstage.URL, Endpoints: endpoints})
	check(t, err)
	who, err := identity.New(o.identity, places, log)
	check(t, err)
	t.Cleanup(who.Close)
	o.conditions.Owners = map[string]string{"todo.item.update": "todo", "a": "catalog"}
	asker, err := conditions.New(o.conditions, places, func(_ context.Context, pluginID string) (string, error) {
		return who.ServiceToken(pluginID)
	}, log)
	check(t, err)
	t.Cleanup(asker.Close)
	gate, err := fair.NewGate()
	check(t, err)
	t.Cleanup(gate.Close)
	parts := adapter.Parts{Gate: gate, Identity: who, Conditions: asker, Log: log, Registry: s.registry}
	startPolicy(t, o, &parts)
	s.status = parts.Status
	if o.inFlight == 0 {
		o.inFlight = 1024
	}
	server := adapter.New(adapter.Options{
		BasePath: "/api/permission", DenyOnError: o.denyOnError, Body: 10 << 20, Items: 10_000, Answer: 32 << 20, FromMetadata: !o.asTheyCome, Memory: 256 << 20, InFlight: o.inFlight, Version: "test",
		Admin:       adapter.AdminOptions{Data: true, Strict: o.strict},
		Permissions: map[string]string{"todo.item.update": "todo", "a": "catalog"},
	}, parts)
	s.server = server
	handler, err := server.Handler()
	check(t, err)
	front := httptest.NewUnstartedServer(handler)
	front.Config.ConnContext = fair.WithSpeaker
	front.Start()
	t.Cleanup(front.Close)
	admin := httptest.NewServer(server.AdminHandler())
	t.Cleanup(admin.Close)
	s.url, s.admin = front.URL+"/api/permission", admin.URL
	backstage.Serve(s.url)
	return s
}

// startPolicy starts the policy, in process or remote, and its log.
func startPolicy(t testing.TB, o siteOptions, p *adapter.Parts) {
	t.Helper()
	vetter, err := vetted.New(vetted.Options{Entrypoint: o.entrypoint, Library: rego.Modules(), Mask: rego.Mask(),
		Reach: reach.Options{AllowNet: []string{"127.0.0.1"}}, Writable: o.dataRoots, WritableBytes: o.dataBytes})
	check(t, err)
	policies := supply.New(supply.Options{Path: o.policyDir, Default: bundles.Dev()}, vetter, p.Log)
	configuration := opa.Options{AuditRequired: o.auditRequired}
	if o.opa != nil {
		configuration.Config, err = json.Marshal(o.opa)
		check(t, err)
	}
	manager, err := opa.New(configuration, policies.Store(), p.Log, p.Registry)
	check(t, err)
	t.Cleanup(func() { manager.Stop(context.Background()) })
	p.Audit = audit.New(audit.Options{Required: o.auditRequired}, manager, p.Log)
	t.Cleanup(p.Audit.Close)
	if o.remote != nil {
		server := *o.remote
		server.Entrypoint = o.entrypoint
		far, err := remote.New(server, p.Log)
		check(t, err)
		t.Cleanup(far.Close)
		p.Policy, p.Status = far, far.Status
		check(t, manager.Start(t.Context()))
		return
	}
	near, err := engine.New(engine.Options{Decision: patience, Answer: 32 << 20, Caching: manager.InterQueryBuiltinCacheConfig()}, policies.Serving, p.Log)
	check(t, err)
	t.Cleanup(near.Close)
	t.Cleanup(policies.Close)
	p.Policy, p.Status = near, policies.Status
	if o.dataRoots != nil {
		p.Write = policies.Write
	}
	check(t, policies.Start(t.Context(), manager))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writeBundle writes a bundle directory that goes with the test.
func writeBundle(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// awaitMetadata asks until the todo plugin's metadata has been fetched, which
// happens in the background.
func (s *site) awaitMetadata(t testing.TB) {
	t.Helper()
	token, err := s.backstage.PluginToken("user:default/alice")
	check(t, err)
	const body = `{"items":[{"id":"1","permission":{"type":"resource","name":"test.unknownrule","attributes":{},"resourceType":"todo-item"}}]}`
	for range 500 {
		if status, _ := s.post(t, token, body); status == http.StatusInternalServerError {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the metadata of the todo plugin was not fetched")
}

// post asks the permission API and returns the status and the body.
func (s *site) post(t testing.TB, token, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/authorize", strings.NewReader(body))
	check(t, err)
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(request)
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, string(text)
}

// catalogPlugin answers apply-conditions for the entities of the recordings, by
// the two rules that their policy uses. The real catalog is asked in e2e.
func catalogPlugin(t testing.TB) http.Handler {
	t.Helper()
	entities := recordedEntities(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/apply-conditions") {
			http.NotFound(w, r)
			return
		}
		var request struct {
			Items []struct {
				ID          string `json:"id"`
				ResourceRef string `json:"resourceRef"`
				Conditions  any    `json:"conditions"`
			} `json:"items"`
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		type answer struct {
			ID     string `json:"id"`
			Result string `json:"result"`
		}
		answers := []answer{}
		for _, item := range request.Items {
			tree, err := criteria.Parse(item.Conditions)
			if err != nil {
				http.Error(w, "bad conditions", http.StatusBadRequest)
				return
			}
			result := "DENY"
			if e, found := entities[item.ResourceRef]; found && tree.Eval(e.rule) {
				result = "ALLOW"
			}
			answers = append(answers, answer{item.ID, result})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": answers})
	})
}

type recordedEntity struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct{ Owner string }
}

func (e recordedEntity) rule(rule criteria.Rule) bool {
	var params struct{ Kinds, Claims []string }
	if json.Unmarshal([]byte(rule.Params), &params) != nil {
		return false
	}
	owner := e.Spec.Owner
	if !strings.Contains(owner, ":") {
		owner = "group:default/" + owner
	}
	return rule.Name == "IS_ENTITY_OWNER" && e.Spec.Owner != "" && slices.Contains(params.Claims, owner) ||
		rule.Name == "IS_ENTITY_KIND" && slices.ContainsFunc(params.Kinds, func(k string) bool { return strings.EqualFold(k, e.Kind) })
}

func recordedEntities(t testing.TB) map[string]recordedEntity {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "testdata", "cases", "entities.yaml"))
	check(t, err)
	defer file.Close()
	entities := map[string]recordedEntity{}
	for decoder := yaml.NewDecoder(file); ; {
		var e recordedEntity
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return entities
		} else if err != nil {
			t.Fatal(err)
		}
		entities[strings.ToLower(e.Kind)+":default/"+e.Metadata.Name] = e
	}
}

// rewrite replaces a file of a bundle.
func rewrite(t testing.TB, dir, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}
