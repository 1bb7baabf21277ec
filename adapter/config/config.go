// Package config is stagedoor's configuration: the keys that it reads, of those
// that package appconfig finds in one or more of Backstage's configuration files.
// So a team can pass its app-config.yaml first and a file of stagedoor's keys after
// it.
//
// Keys that Backstage has keep their names and meaning: backend.baseUrl,
// backend.cors, backend.auth, discovery.endpoints. What stagedoor adds lies under
// stagedoor, where a key that is not known is an error that names the nearest
// known one. opa is OPA's own configuration, handed on verbatim. Everything else
// is ignored, and what it refers to need not be there.
//
// [Load] reports every problem at once, each with its key path, and touches
// nothing but the files it reads.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	stdmaps "maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/maps"
	rscors "github.com/rs/cors"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/appconfig"
	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/origin"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/remote"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/tracing"
)

// Config is the whole configuration, valid and with its defaults filled in.
type Config struct {
	// Endpoint is where the permission API is, Admin where the operator's is.
	Endpoint, Admin endpoint.Options
	// AdminTokens open what is for operators alone from elsewhere than loopback, each of
	// them. AdminData is whether decisions can be asked there, and AdminStrict whether
	// readiness fails where something is degraded.
	AdminTokens []string
	AdminData   bool
	AdminStrict bool
	// ShutdownDelay is how long everything goes on after the process is told to end.
	ShutdownDelay time.Duration
	// BasePath is where the permission API is, such as /api/permission.
	BasePath string
	// CORS is nil where backend.cors says nothing.
	CORS *rscors.Options
	// Body, Answer, Memory and Data are in bytes; Memory is 0 where it is to be found out.
	Body, Answer, Memory, Data int64

	// Profiles is stagedoor.admin.pprof.
	Profiles bool
	// FromMetadata is stagedoor.permissions.fromMetadata.
	FromMetadata bool

	Items       int
	InFlight    int64
	DenyOnError bool
	LogLevel    logrus.Level

	// Entrypoint is the path of the rule that decides; empty for the annotated one.
	Entrypoint string
	// Reach is what policies may reach beyond their input and data.
	Reach reach.Options

	Discovery  discovery.Options
	Identity   identity.Options
	Conditions conditions.Options
	Supply     supply.Options
	OPA        opa.Options
	Engine     engine.Options
	Audit      audit.Options
	// Remote is nil where the policy is decided in process.
	Remote *remote.Options
	// Shadow is nil where no candidate is compared with the policy that serves.
	Shadow *Shadow

	values map[string]any // as they were read
}

// Shadow is the candidate of stagedoor.policy.shadow, and for which share of requests it
// is compared.
type Shadow struct {
	Path  string
	Share float64
}

// The top-level keys that are stagedoor's own.
const ownSection, opaSection = "stagedoor", "opa"

// Load reads the files, in the order in which they are to be merged, with
// variables from the environment, and merges last over them, which may be nil.
// The error is an [*Error] that lists every problem.
func Load(paths []string, last map[string]any) (*Config, error) {
	return load(paths, last, os.Environ())
}

func load(paths []string, last map[string]any, environ []string) (*Config, error) {
	read, wrong := appconfig.Read(appconfig.Options{
		Files: paths, Environ: environ, Read: readKeys(), Strict: []string{ownSection, opaSection},
	})
	var found problems
	unread := false // a file as a whole, so that what is missing may be in it
	for _, p := range wrong {
		unread = unread || p.Key == ""
		found.add(p.Key, "%s", p.Text)
	}
	if unread {
		return nil, found.err(nil)
	}
	found.nearlyOurs(read.Top)
	raw := read.Values
	maps.Merge(last, raw)
	d := defaults()
	found = append(found, decode(raw, &d)...)
	opaConfig, err := opaDocument(raw[opaSection])
	if err != nil {
		found.add(opaSection, "%v", err)
	}
	c := d.config(opaConfig)
	c.values = raw
	found.check(d, c)
	if err := found.err(read.LeftOut); err != nil {
		return nil, err
	}
	return c, nil
}

// reloaded are the keys, and what is below them, that count without a restart.
var reloaded = []string{
	"backend.auth.pluginKeyStore", "backend.baseUrl", "discovery",
	"stagedoor.log.level", "stagedoor.tls", "stagedoor.admin.tls", "stagedoor.admin.token",
}

// AfterRestart returns the keys in which next differs and which count after a restart
// alone, sorted.
func (c *Config) AfterRestart(next *Config) []string {
	before, _ := maps.Flatten(c.values, nil, ".")
	after, _ := maps.Flatten(next.values, nil, ".")
	changed := map[string]bool{}
	for _, values := range []map[string]any{before, after} {
		for key := range values {
			counts := slices.ContainsFunc(reloaded, func(k string) bool { return key == k || strings.HasPrefix(key, k+".") })
			if !counts && !reflect.DeepEqual(before[key], after[key]) {
				changed[key] = true
			}
		}
	}
	return slices.Sorted(stdmaps.Keys(changed))
}

func opaDocument(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errors.New("want an object: OPA's own configuration document")
	}
	return json.Marshal(v)
}

// config arranges the document by what its parts are for.
func (d document) config(opaConfig json.RawMessage) *Config {
	s := d.Stagedoor
	c := &Config{
		Endpoint: endpoint.Options{
			Address: s.Listen, TLS: s.TLS.options(false), H2C: s.H2C, Connections: s.Limits.Connections,
		},
		Admin: endpoint.Options{
			Address: s.Admin.Listen, TLS: s.Admin.TLS.options(true), H2C: s.Admin.H2C, Connections: adminConnections,
		},
		AdminTokens: s.Admin.Token.given(), AdminData: s.Admin.Data, AdminStrict: s.Admin.Strict,
		ShutdownDelay: time.Duration(d.Backend.Lifecycle.ServerShutdownDelay),
		BasePath:      s.BasePath, CORS: d.Backend.CORS.options(),
		Body: int64(s.Limits.Body), Items: s.Limits.Items, InFlight: int64(s.Limits.InFlight),
		Answer: int64(s.Limits.Answer), Memory: int64(s.Limits.Memory), Data: int64(s.Limits.Data),
		FromMetadata: s.Permissions.FromMetadata, Profiles: s.Admin.Pprof,
		DenyOnError: s.Policy.OnError == "deny",
		Discovery:   discovery.Options{BaseURL: d.Backend.BaseURL},
		Identity: identity.Options{
			DangerouslyDisableDefaultAuthPolicy: d.Backend.Auth.DangerouslyDisableDefaultAuthPolicy,
			UserInfoTTL:                         s.Identity.UserInfoTTL,
			UserInfoStale:                       s.Identity.UserInfoStale,
			Leeway:                              s.Identity.Leeway,
			Bare:                                !s.Identity.Precompute,
			TokenCache:                          int64(s.Caches.Tokens),
			UserInfoCache:                       int64(s.Caches.UserInfo),
			PluginKeyStore:                      keyring.Options{Type: d.Backend.Auth.PluginKeyStore.Type},
		},
		Conditions: conditions.Options{Timeout: s.Conditions.Timeout},
		Entrypoint: strings.Trim(s.Policy.Entrypoint, "/"),
		Reach:      reach.Options(s.Policy.Capabilities),
		Supply: supply.Options{
			Path: s.Policy.Path, MaxAge: s.Policy.MaxAge, DenyStale: s.Policy.OnStale == "fail", DataRoots: s.Admin.DataRoots,
		},
		OPA: opa.Options{Config: opaConfig, AuditRequired: s.Audit.Required},
		Engine: engine.Options{Decision: s.Limits.Decision, Answer: int64(s.Limits.Answer),
			Memo: int64(s.Caches.Decisions)},
		Audit: audit.Options{Required: s.Audit.Required, Callers: s.Audit.Callers},
	}
	if of := s.Policy.Shadow; of != nil {
		c.Shadow = &Shadow{Path: of.Path, Share: 1}
		if of.Share != nil {
			c.Shadow.Share = *of.Share
		}
	}
	if r := s.Policy.Remote; r != nil {
		c.Remote = &remote.Options{
			Entrypoint: c.Entrypoint, Decision: s.Limits.Decision, URL: r.URL, Token: r.Token, TokenFile: r.TokenFile,
			CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile, Parallel: r.Parallel,
		}
	}
	for _, e := range d.Discovery.Endpoints {
		endpoint := discovery.Endpoint{Target: e.Target.Internal, Plugins: e.Plugins}
		c.Discovery.Endpoints = append(c.Discovery.Endpoints, endpoint)
	}
	for _, k := range d.Backend.Auth.PluginKeyStore.Static.Keys {
		c.Identity.PluginKeyStore.Keys = append(c.Identity.PluginKeyStore.Keys, keyring.KeyFiles(k))
	}
	return c
}

// adminConnections are the most at a time at the operator's address: probes,
// scrapers, and people.
const adminConnections = 500

// options are those of an endpoint, nil where no TLS is spoken. Clients need no
// certificate where they are optional: probes have none.
func (t *tls) options(optional bool) *endpoint.TLS {
	if t == nil {
		return nil
	}
	return &endpoint.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile, ClientsOptional: optional}
}

// options are those of a CORS handler that does what Backstage's makes of the same
// keys (readCorsOptions of @backstage/backend-defaults 0.19.0).
func (c *cors) options() *rscors.Options {
	if c == nil {
		return nil
	}
	o := &rscors.Options{
		AllowedMethods: c.Methods.split(), AllowedHeaders: c.AllowedHeaders.split(),
		ExposedHeaders: c.ExposedHeaders.split(), AllowCredentials: c.Credentials, MaxAge: c.MaxAge,
	}
	var patterns []*origin.Pattern
	for _, text := range c.Origin {
		if p, err := origin.Compile(text); err == nil { // check has told of the others
			patterns = append(patterns, p)
		}
	}
	o.AllowOriginFunc = func(from string) bool {
		return slices.ContainsFunc(patterns, func(p *origin.Pattern) bool { return p.Match(from) })
	}
	if len(o.AllowedMethods) == 0 {
		o.AllowedMethods = []string{http.MethodPost, http.MethodGet, http.MethodHead}
	}
	if len(o.AllowedHeaders) == 0 {
		o.AllowedHeaders = []string{"*"}
	}
	return o
}

// leastMemory is for requests under way, in bytes. With less none could be answered.
const leastMemory = 1 << 20

// given are the elements that are not empty.
func (list oneOrMany) given() []string {
	return slices.DeleteFunc(slices.Clone(list), func(element string) bool { return element == "" })
}

// below is the value of a key of the configuration, if it is given.
func below(values map[string]any, path ...string) (value any, given bool) {
	for _, key := range path {
		if value, given = values[key]; !given {
			return nil, false
		}
		values, _ = value.(map[string]any)
	}
	return value, true
}

// split takes lists apart that are written as one text with commas.
func (list oneOrMany) split() []string {
	var all []string
	for _, element := range list {
		for one := range strings.SplitSeq(element, ",") {
			all = append(all, strings.TrimSpace(one))
		}
	}
	return all
}

// check adds what is wrong with values that are of the right type.
func (p *problems) check(d document, c *Config) {
	s := d.Stagedoor
	p.checkEndpoint("stagedoor", c.Endpoint)
	p.checkEndpoint("stagedoor.admin", c.Admin)
	if endpoint.Same(c.Endpoint.Address, c.Admin.Address) {
		p.add("stagedoor.admin.listen", "is where the permission API is, too: want another port than in stagedoor.listen")
	}
	if value, given := below(c.values, "stagedoor", "policy", "path"); given && (value == nil || value == "") {
		p.add("stagedoor.policy.path", "is empty: want a directory or bundle.tar.gz. Leave the key out to serve the default "+
			"that is compiled in")
	}
	if slices.ContainsFunc(c.AdminTokens, func(token string) bool { return len(token) < leastToken }) {
		p.add("stagedoor.admin.token", "want %d characters at least", leastToken)
	}
	if slices.ContainsFunc(c.AdminTokens, func(token string) bool { return strings.TrimSpace(token) != token }) {
		p.add("stagedoor.admin.token", "begins or ends with a blank or a line break, which no request can send")
	}
	if len(c.Supply.DataRoots) > 0 && len(s.Admin.Token) > 0 && len(c.AdminTokens) == 0 {
		p.add("stagedoor.admin.token", "it is empty, so that every process of this machine could write the data of "+
			"stagedoor.admin.dataRoots: give one, or leave the key out")
	}
	if len(c.Supply.DataRoots) > 0 && s.Policy.Remote != nil {
		p.add("stagedoor.admin.dataRoots", "a remote OPA server decides: write data there")
	}
	if delay := c.ShutdownDelay; delay > mostDelay {
		p.add("backend.lifecycle.serverShutdownDelay", "want %v at most, have %v", mostDelay, delay)
	}
	if u, err := url.Parse(s.BasePath); err != nil || u.Path != s.BasePath || !strings.HasPrefix(s.BasePath, "/") ||
		path.Clean(s.BasePath) != s.BasePath && path.Clean(s.BasePath)+"/" != s.BasePath {
		p.add("stagedoor.basePath", "want a path such as /api/permission, have %q", s.BasePath)
	}
	for i, e := range d.Discovery.Endpoints {
		if e.Target.Internal == "" && e.Target.External == "" {
			p.add(fmt.Sprintf("discovery.endpoints[%d].target", i), "missing")
		}
	}
	if d.Backend.CORS != nil {
		for _, pattern := range d.Backend.CORS.Origin {
			if _, err := origin.Compile(pattern); err != nil {
				p.add("backend.cors.origin", "the pattern %q: %v", pattern, err)
			}
		}
	}
	p.oneOf("stagedoor.policy.onError", s.Policy.OnError, "fail", "deny")
	p.oneOf("stagedoor.policy.onStale", s.Policy.OnStale, "serve", "fail")
	if of := c.Shadow; of != nil {
		if of.Path == "" {
			p.add("stagedoor.policy.shadow.path", "missing: want a directory or bundle.tar.gz with the candidate")
		}
		if of.Share <= 0 || of.Share > 1 {
			p.add("stagedoor.policy.shadow.share", "want more than 0 and at most 1, have %v", of.Share)
		}
	}
	p.positive("stagedoor.limits.body", int64(s.Limits.Body))
	p.positive("stagedoor.limits.items", int64(s.Limits.Items))
	p.positive("stagedoor.limits.inFlight", int64(s.Limits.InFlight))
	p.positive("stagedoor.limits.connections", int64(s.Limits.Connections))
	p.lasting("stagedoor.limits.decision", s.Limits.Decision)
	p.positive("stagedoor.limits.data", int64(s.Limits.Data))
	p.positive("stagedoor.limits.answer", int64(s.Limits.Answer))
	p.positive("stagedoor.caches.decisions", int64(s.Caches.Decisions))
	p.positive("stagedoor.caches.tokens", int64(s.Caches.Tokens))
	p.positive("stagedoor.caches.userInfo", int64(s.Caches.UserInfo))
	p.lasting("stagedoor.conditions.timeout", s.Conditions.Timeout)
	if m := s.Limits.Memory; m != 0 && m < leastMemory {
		p.add("stagedoor.limits.memory", "want 1MiB at least, or 0 for a share of the memory that there is")
	}
	if s.Policy.MaxAge < 0 {
		p.add("stagedoor.policy.maxAge", "want a positive duration, have %v", s.Policy.MaxAge)
	}
	if age := s.Policy.MaxAge; c.Supply.Path != "" && age > 0 && age < leastAge {
		p.add("stagedoor.policy.maxAge", "want %v at least, since a folder is looked at every few seconds, have %v",
			leastAge, age)
	}
	level, err := logrus.ParseLevel(s.Log.Level)
	if err != nil || level < logrus.ErrorLevel || level > logrus.DebugLevel {
		p.add("stagedoor.log.level", "want debug, info, warn or error, have %q", s.Log.Level)
	}
	c.LogLevel = level
	p.addError(c.Discovery.Validate())
	p.addError(c.Identity.Validate())
	p.addError(c.Conditions.Validate())
	p.addError(c.Reach.Validate())
	p.addError(c.OPA.Validate())
	p.addError(tracing.Validate(c.OPA.DistributedTracing()))
	p.addError(c.Supply.Validate(c.OPA.PolicyKeys()))
	if c.Remote != nil {
		p.addError(c.checkRemote())
	}
}

// checkRemote is what is wrong with a remote server that decides, also beside what
// else says who does.
func (c *Config) checkRemote() error {
	problems := []error{c.Remote.Validate()}
	if c.Supply.Path != "" {
		problems = append(problems, errors.New(
			"stagedoor.policy.path and stagedoor.policy.remote both say who decides: keep one"))
	}
	if len(c.OPA.PolicyKeys()) > 0 {
		problems = append(problems, errors.New(
			"stagedoor.policy.remote and the bundles of opa both say who decides: keep one"))
	}
	return errors.Join(problems...)
}

// What secures the operator's address must not be guessed, and who ends a process
// must not wait for ever.
const (
	leastAge   = 10 * time.Second // of a folder
	leastToken = 16
	mostDelay  = 10 * time.Minute
)

// checkEndpoint adds what is wrong with an endpoint, whose keys are below section.
func (p *problems) checkEndpoint(section string, o endpoint.Options) {
	if err := endpoint.Check(o.Address); err != nil {
		p.add(section+".listen", "%v", err)
	}
	if o.TLS == nil {
		return
	}
	if err := o.TLS.Validate(); err != nil {
		p.add(section+".tls", "%v", err)
	}
	if o.H2C {
		p.add(section+".h2c", "is for HTTP/2 without TLS; leave it out, or leave out %s.tls", section)
	}
}

func (p *problems) oneOf(key, value string, values ...string) {
	if !slices.Contains(values, value) {
		p.add(key, "want %s, have %q", strings.Join(values, " or "), value)
	}
}

// leastTime is the least that a decision or a request may be given: in less, none is done.
const leastTime = time.Millisecond

func (p *problems) lasting(key string, value time.Duration) {
	if value < leastTime {
		p.add(key, "want %v at least, have %v", leastTime, value)
	}
}

func (p *problems) positive(key string, value int64) {
	if value <= 0 {
		p.add(key, "want more than 0")
	}
}
