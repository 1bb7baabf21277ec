package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/policy"
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
			if checkOnly {
				return checkConfig(cmd.Context(), c)
			}
			log := newLog(c.LogLevel)
			return serve(cmd.Context(), c, log, bundles.Default(), func(*server) error { return nil })
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

// checkConfig checks all that can be checked without being seen from outside.
func checkConfig(ctx context.Context, c *config.Config) error {
	log := newLog(logrus.ErrorLevel)
	if c.Remote != nil {
		return c.Remote.Validate(c.Policy)
	}
	options := c.Policy
	options.Library, options.Default, options.Log = rego.Modules(), bundles.Default(), log
	return policy.Vet(ctx, options)
}

// build puts the server together; it does not listen yet. The bundle fallback
// serves where the configuration names no policy.
func build(ctx context.Context, c *config.Config, log *logrus.Entry, fallback fs.FS) (*server, error) {
	places, err := discovery.New(c.Discovery)
	if err != nil {
		return nil, err
	}
	who, err := identity.New(c.Identity, places, log)
	if err != nil {
		return nil, err
	}
	service := func(_ context.Context, pluginID string) (string, error) { return who.ServiceToken(pluginID) }
	asker, err := conditions.New(conditions.Options{}, places, service, log)
	if err != nil {
		who.Close()
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	options := c.Policy
	options.Library, options.Mask, options.Default = rego.Modules(), rego.Mask(), fallback
	options.Log, options.Registry = log, registry
	decides, err := newDecider(ctx, c.Remote, options)
	if err != nil {
		asker.Close()
		who.Close()
		return nil, err
	}
	s := adapter.New(adapter.Options{
		BasePath: c.BasePath, DenyOnError: c.DenyOnError, Body: c.Body, Items: c.Items, InFlight: c.InFlight,
		CORS: c.CORS, Version: version(),
	}, adapter.Parts{
		Identity: who, Policy: decides, Conditions: asker, Audit: decides.Audit(), Log: log, Registry: registry,
	})
	handler, err := s.Handler()
	if err != nil {
		return nil, err
	}
	return &server{
		handler: handler, adminHandler: s.AdminHandler(),
		close: func(ctx context.Context) {
			asker.Close()
			who.Close()
			decides.Close(ctx)
		},
	}, nil
}

// decider is the policy, in process or remote.
type decider interface {
	adapter.Decider
	Audit() *policy.Audit
	Close(context.Context)
}

func newDecider(ctx context.Context, remote *policy.RemoteOptions, o policy.Options) (decider, error) {
	if remote != nil {
		return policy.NewRemote(ctx, *remote, o)
	}
	return policy.New(ctx, o)
}

// serve serves until ctx is done, and then finishes what is in flight. Started is
// called once both servers listen.
func serve(
	ctx context.Context, c *config.Config, log *logrus.Entry, fallback fs.FS, started func(*server) error,
) error {
	pace(ctx)
	s, err := build(ctx, c, log, fallback)
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
