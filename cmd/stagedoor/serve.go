package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter"
	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/opa"
	"github.com/stagedoor/stagedoor/adapter/remote"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/bundles"
	"github.com/stagedoor/stagedoor/rego"
)

// The timeouts of both servers, and how long a shutdown lets requests finish.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	drainTimeout      = 25 * time.Second
	maxHeaderBytes    = 128 << 10
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
			c, err := config.Load(files, nil)
			if err != nil {
				return err
			}
			c.Supply.Default = bundles.Default()
			if checkOnly {
				return checkConfig(cmd.Context(), c)
			}
			return serve(cmd.Context(), c, newLog(c.LogLevel), func(*server) error { return nil })
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "a YAML `file`; several are merged in order")
	cmd.Flags().BoolVar(&checkOnly, "check-config", false, "check configuration and policy, and exit")
	cmd.Flags().BoolVar(&dev, "dev", false, "serve on loopback with a token issuer and a sample plugin, for trying out")
	cmd.MarkFlagsMutuallyExclusive("check-config", "dev")
	return cmd
}

func newLog(level logrus.Level) *logrus.Entry {
	log := logrus.New()
	log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	log.SetLevel(level)
	return logrus.NewEntry(log)
}

// server is everything that serves, put together.
type server struct {
	listener, admin net.Listener
	handler         http.Handler
	adminHandler    http.Handler
	close           func(context.Context)
}

// URL is where the permission API is, without its base path.
func (s *server) URL() string { return "http://" + s.listener.Addr().String() }

// AdminURL is where the operator's API is.
func (s *server) AdminURL() string { return "http://" + s.admin.Addr().String() }

// checkConfig checks all that can be checked without being seen from outside: what
// OPA's bundles will bring, or a remote server decides, is not known.
func checkConfig(ctx context.Context, c *config.Config) error {
	if c.Remote != nil || c.Supply.Path == "" && len(c.OPA.PolicyKeys()) > 0 {
		return nil
	}
	vetter, err := vetted.New(vettedBy(c.Entrypoint))
	if err != nil {
		return err
	}
	_, err = supply.New(c.Supply, vetter, newLog(logrus.ErrorLevel)).Load(ctx)
	return err
}

// vettedBy says what policies are held to.
func vettedBy(entrypoint string) vetted.Options {
	return vetted.Options{Entrypoint: entrypoint, Library: rego.Modules(), Mask: rego.Mask()}
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
func build(ctx context.Context, c *config.Config, log *logrus.Entry) (_ *server, err error) {
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
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	parts := adapter.Parts{Identity: who, Conditions: asker, Log: log, Registry: registry}
	if err := startPolicy(ctx, c, &parts, &started); err != nil {
		return nil, err
	}
	s := adapter.New(adapter.Options{
		BasePath: c.BasePath, DenyOnError: c.DenyOnError, Body: c.Body, Items: c.Items, InFlight: c.InFlight,
		Answer: c.Answer, Memory: budget(c.Memory), FromMetadata: c.FromMetadata,
		CORS: c.CORS, Version: version(),
	}, parts)
	handler, err := s.Handler()
	if err != nil {
		return nil, err
	}
	return &server{handler: handler, adminHandler: s.AdminHandler(), close: started.close}, nil
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
	vetter, err := vetted.New(vettedBy(c.Entrypoint))
	if err != nil {
		return err
	}
	policies := supply.New(c.Supply, vetter, p.Log)
	manager, err := opa.New(c.OPA, policies.Store(), p.Log, p.Registry)
	if err != nil {
		return err
	}
	started.add(manager.Stop)
	p.Audit, err = audit.New(c.Audit, manager, p.Log)
	if err != nil {
		return err
	}
	started.simple(p.Audit.Close)
	if c.Remote != nil {
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
	return policies.Start(ctx, manager)
}

// serve serves until ctx is done, and then finishes what is in flight. Started is
// called once both servers listen.
func serve(ctx context.Context, c *config.Config, log *logrus.Entry, started func(*server) error) error {
	pace(ctx)
	limitMemory(log)
	s, err := build(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.close(context.WithoutCancel(ctx))
	if s.listener, err = listen(ctx, "stagedoor.listen", c.Listen); err != nil {
		return err
	}
	if s.admin, err = listen(ctx, "stagedoor.admin.listen", c.AdminListen); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	log.WithFields(logrus.Fields{"url": s.URL() + c.BasePath, "admin": s.AdminURL(), "version": version()}).Info("serving")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveOn(groupCtx, s.listener, s.handler, log) })
	group.Go(func() error { return serveOn(groupCtx, s.admin, s.adminHandler, log) })
	group.Go(func() error { return started(s) })
	return group.Wait()
}

func listen(ctx context.Context, key, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return listener, nil
}

// serveOn serves on the listener until ctx is done, and then finishes what is in flight.
func serveOn(ctx context.Context, listener net.Listener, handler http.Handler, log *logrus.Entry) error {
	httpLog := log.WriterLevel(logrus.WarnLevel)
	defer func() { _ = httpLog.Close() }()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdlog.New(httpLog, "", 0),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off after %v: %w", drainTimeout, err), server.Close())
	}
	return nil
}
