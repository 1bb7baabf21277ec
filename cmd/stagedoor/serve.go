package main

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter"
	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/remote"
	"github.com/stagedoor/stagedoor/adapter/shadow"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/tracing"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/bundles"
	"github.com/stagedoor/stagedoor/rego"
)

func newServe() *cobra.Command {
	var files []string
	var checkOnly, dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the permission API",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dev {
				return serveDev(cmd.Context(), cmd.OutOrStdout(), files)
			}
			load := func() (*config.Config, error) { return config.Load(files, nil) }
			if checkOnly {
				return checkConfig(cmd.Context(), cmd.OutOrStdout(), load)
			}
			return serve(cmd.Context(), load, bundles.Default(), func(*server) error { return nil })
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "a YAML `file`; several are merged in order")
	cmd.Flags().BoolVar(&checkOnly, "check-config", false, "check configuration and policy, and exit")
	cmd.Flags().BoolVar(&dev, "dev", false, "serve on loopback with a token issuer and a sample plugin, for trying out")
	cmd.MarkFlagsMutuallyExclusive("check-config", "dev")
	return cmd
}

// server is everything that serves, put together.
type server struct {
	config          *config.Config // as it counts now
	places          *discovery.Discovery
	identity        *identity.Identity
	api             *adapter.Server
	listener, admin *endpoint.Endpoint
	handler         http.Handler
	adminHandler    http.Handler
	configured      *configured
	close           func(context.Context)
	log             *logrus.Entry
}

// URL is where the permission API is, without its base path.
func (s *server) URL() string { return s.listener.URL() }

// AdminURL is where the operator's API is.
func (s *server) AdminURL() string { return s.admin.URL() }

// vettedBy says what policies are held to.
func vettedBy(entrypoint string, c *config.Config) vetted.Options {
	return vetted.Options{
		Entrypoint: entrypoint, Library: rego.Modules(), Mask: rego.Mask(), Reach: c.Reach, Writable: c.Supply.DataRoots,
		WritableBytes: c.Data,
	}
}

// closers close what was started, the last first.
type closers []func(context.Context)

func (c *closers) add(f func(context.Context)) { *c = append(*c, f) }

// simple adds what needs no time to close.
func (c *closers) simple(f func()) { c.add(func(context.Context) { f() }) }

func (c *closers) close(ctx context.Context) {
	for _, f := range slices.Backward(*c) {
		f(ctx)
	}
}

// build puts the server together; it does not listen yet.
func build(
	ctx context.Context, c *config.Config, log *logrus.Entry, registry *prometheus.Registry,
) (_ *server, err error) {
	var started closers
	defer func() {
		if err != nil {
			started.close(context.WithoutCancel(ctx))
		}
	}()
	places, err := discovery.New(c.Discovery)
	if err != nil {
		return nil, err
	}
	told := tracing.NewTold(log, registry)
	started.simple(told.Close)
	tracer, err := tracing.New(c.OPA.DistributedTracing(), version(), told)
	if err != nil {
		return nil, err
	}
	started.add(tracer.Close)
	c.Identity.Tracer, c.Conditions.Tracer = tracer, tracer
	who, err := identity.New(c.Identity, places, log)
	if err != nil {
		return nil, err
	}
	started.simple(who.Close)
	service := func(_ context.Context, pluginID string) (string, error) { return who.ServiceToken(pluginID) }
	asks := c.Conditions
	asks.Owners = owners()
	asker, err := conditions.New(asks, places, service, log)
	if err != nil {
		return nil, err
	}
	started.simple(asker.Close)
	gate, err := fair.NewGate()
	if err != nil {
		return nil, err
	}
	started.simple(gate.Close)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	parts := adapter.Parts{Gate: gate, Identity: who, Conditions: asker, Log: log, Registry: registry, Tracer: tracer}
	if err := startPolicy(ctx, c, &parts, &started); err != nil {
		return nil, err
	}
	if c.Shadow != nil {
		if parts.Shadow, err = startShadow(c, log, registry); err != nil {
			return nil, err
		}
		started.simple(parts.Shadow.Close)
	}
	read := newConfigured(time.Now)
	parts.Status = read.in(parts.Status)
	s := adapter.New(adapter.Options{
		BasePath: c.BasePath, DenyOnError: c.DenyOnError, Body: c.Body, Items: c.Items, InFlight: c.InFlight,
		Answer: c.Answer, Memory: budget(c.Memory), FromMetadata: c.FromMetadata, Permissions: asks.Owners,
		Profiles: c.Profiles,
		CORS:     c.CORS, Version: version(),
		Admin: adapter.AdminOptions{Tokens: c.AdminTokens, Data: c.AdminData, Strict: c.AdminStrict},
	}, parts)
	started.simple(s.Close)
	if c.Profiles {
		runtime.MemProfileRate = 512 << 10 // Go's own; main has turned it off
	}
	handler, err := s.Handler()
	if err != nil {
		return nil, err
	}
	return &server{
		config: c, places: places, identity: who, api: s, handler: handler, adminHandler: s.AdminHandler(),
		configured: read, close: started.close, log: log,
	}, nil
}

// owners are the plugins of the permissions that the stock inventory knows, by name.
func owners() map[string]string {
	all := map[string]string{}
	for _, p := range inventory.Stock().Permissions {
		all[p.Name] = p.PluginID
	}
	return all
}

// startPolicy starts what brings policies, what decides, in process or remote, and
// the decision log.
func startPolicy(ctx context.Context, c *config.Config, p *adapter.Parts, started *closers) error {
	vetter, err := vetted.New(vettedBy(c.Entrypoint, c))
	if err != nil {
		return err
	}
	policies := supply.New(c.Supply, vetter, p.Log)
	manager, err := opa.New(c.OPA, policies.Store(), p.Log, p.Registry)
	if err != nil {
		return err
	}
	started.add(manager.Stop)
	p.Audit = audit.New(c.Audit, manager, p.Log)
	started.simple(p.Audit.Close)
	if c.Remote != nil {
		c.Remote.Tracer = p.Tracer
		far, err := remote.New(*c.Remote, p.Log)
		if err != nil {
			return err
		}
		started.simple(far.Close)
		p.Policy, p.Status = far, far.Status
		return manager.Start(ctx)
	}
	decides := c.Engine
	decides.Caching = manager.InterQueryBuiltinCacheConfig()
	near, err := engine.New(decides, policies.Serving, p.Log)
	if err != nil {
		return err
	}
	started.simple(near.Close)
	started.simple(policies.Close)
	p.Policy, p.Status = near, policies.Status
	if len(c.Supply.DataRoots) > 0 {
		p.Write = policies.Write
	}
	return policies.Start(ctx, manager)
}

// startShadow starts comparing the candidate with the policy that serves.
func startShadow(c *config.Config, log *logrus.Entry, registry prometheus.Registerer) (*shadow.Shadow, error) {
	vetter, err := vetted.New(vettedBy("", c))
	if err != nil {
		return nil, err
	}
	rules, err := explore.Rules(vetter.Library())
	if err != nil {
		return nil, err
	}
	quiet := log.WithField("candidate", c.Shadow.Path)
	return shadow.New(shadow.Options{
		Path: c.Shadow.Path, Share: c.Shadow.Share, Comparer: comparison.ComparerOf(rules),
		Open: func(ctx context.Context) (*shadow.Candidate, error) { return openCandidate(ctx, c, vetter, quiet) },
	}, log, registry), nil
}

// openCandidate opens a policy as the one that serves is opened, beside it. It is watched
// too, and what is refused later leaves it deciding by the last good one.
func openCandidate(
	ctx context.Context, c *config.Config, vetter *vetted.Vetter, log *logrus.Entry,
) (_ *shadow.Candidate, err error) {
	var started closers
	defer func() {
		if err != nil {
			started.close(context.WithoutCancel(ctx))
		}
	}()
	policies := supply.New(supply.Options{Path: c.Shadow.Path, Key: "stagedoor.policy.shadow.path"}, vetter, log)
	manager, err := opa.New(opa.Options{}, policies.Store(), log, nil)
	if err != nil {
		return nil, err
	}
	started.add(manager.Stop)
	near, err := engine.New(engine.Options{Decision: c.Engine.Decision}, policies.Serving, log)
	if err != nil {
		return nil, err
	}
	started.simple(near.Close)
	started.simple(policies.Close)
	if err := policies.Start(ctx, manager); err != nil {
		return nil, err
	}
	return &shadow.Candidate{
		Decider: near, Close: func() { started.close(context.WithoutCancel(ctx)) },
		Refused: func() string {
			var why []string
			for _, refused := range policies.Status().Refused {
				why = append(why, refused.Reason)
			}
			return strings.Join(why, "; ")
		},
	}, nil
}
