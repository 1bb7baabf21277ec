package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
)

// How long each step of ending takes at most, after backend.lifecycle.serverShutdownDelay.
const (
	drainLinger   = time.Second      // in which clients are told to go elsewhere
	drainTimeout  = 20 * time.Second // for requests under way
	adminTimeout  = 2 * time.Second  // for those at the operator's address
	closeTimeout  = 12 * time.Second // for the decision log, and all else
	loggedTimeout = 2 * time.Second  // for the last lines of the log
)

// signalled is why the process ends.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// untilSignalled returns a context that is done when the process is told to end. A
// second signal ends it at once.
func untilSignalled(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			cancel(signalled{s})
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() { cancel(nil) }
}

// terminated reports whether the process was told to end by who may still send
// requests to it for a while, and not by a person at a terminal.
func terminated(ctx context.Context) bool {
	cause, is := errors.AsType[signalled](context.Cause(ctx))
	return is && cause.Signal == syscall.SIGTERM
}

// loader reads the configuration, as it is now.
type loader func() (*config.Config, error)

// serve serves until ctx is done, and then ends in good order. The bundle fallback is
// what decides where no other is configured. Started is called once both addresses are
// open.
func serve(ctx context.Context, load loader, fallback fs.FS, started func(*server) error) error {
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)
	c, err := load()
	if err != nil {
		return err
	}
	policies := uint64(1)
	if c.Shadow != nil {
		policies++
	}
	pace(ctx, policies)
	c.Supply.Default = fallback
	log, out := newSpooledLog(c.LogLevel)
	defer flush(out)
	limitMemory(log)
	registry := prometheus.NewRegistry()
	registry.MustRegister(dropped(out))
	s, err := build(ctx, c, log, registry)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // told to end before it began
	case err != nil:
		return err
	}
	defer s.closeInTime(ctx)
	if err := s.listen(ctx); err != nil {
		return err
	}
	registry.MustRegister(endpoint.Gauges{"api": s.listener, "admin": s.admin})
	s.announce()
	s.notify(daemon.SdNotifyReady + "\nSTATUS=serving")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.listener.Serve(s.handler, log) })
	group.Go(func() error { return s.admin.Serve(s.adminHandler, log) })
	group.Go(func() error { return started(s) })
	group.Go(func() error {
		for {
			select {
			case <-reloads:
				s.reload(load)
			case <-groupCtx.Done():
				return s.end(groupCtx, terminated(ctx))
			}
		}
	})
	return group.Wait()
}

// listen opens both addresses.
func (s *server) listen(ctx context.Context) (err error) {
	c := s.config
	c.Endpoint.Connections, c.Admin.Connections = connections(c.Endpoint.Connections, c.Admin.Connections, openFiles())
	if s.listener, err = endpoint.Listen(ctx, c.Endpoint); err != nil {
		return fmt.Errorf("stagedoor.listen: %w", err)
	}
	if s.admin, err = endpoint.Listen(ctx, c.Admin); err != nil {
		return errors.Join(fmt.Errorf("stagedoor.admin.listen: %w", err), s.listener.Shutdown(ctx))
	}
	return nil
}

// openFiles is how many files the process may have open.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 1 << 30
	}
	return int(limit.Cur)
}

// connections are how many there may be at each of the addresses: two thirds of the
// open files together, since calls and files need some too.
func connections(asked, adminAsked, files int) (api, admin int) {
	room := files / 3 * 2
	admin = max(min(adminAsked, room/8), 4)
	return max(min(asked, room-admin), 4), admin
}

// notify tells the service manager, where one started this process, how it fares.
func (s *server) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.WithError(err).Warn("the service manager was not told")
	}
}

// end ends both addresses without a client noticing. Where late is true, others still
// send requests for a while: they are answered, while /ready says that this ends.
func (s *server) end(ctx context.Context, late bool) error {
	ctx = context.WithoutCancel(ctx)
	s.api.End()
	s.notify(daemon.SdNotifyStopping)
	if late {
		s.log.WithField("after", s.config.ShutdownDelay.String()).Info("ending")
		time.Sleep(s.config.ShutdownDelay)
		s.listener.Drain()
		time.Sleep(min(drainLinger, s.config.ShutdownDelay))
	}
	err := shutdown(ctx, s.listener, drainTimeout)
	return errors.Join(err, shutdown(ctx, s.admin, adminTimeout))
}

func shutdown(ctx context.Context, e *endpoint.Endpoint, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return e.Shutdown(ctx)
}

// closeInTime closes what else runs, and does not wait for what hangs.
func (s *server) closeInTime(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.close(ctx)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
		s.log.Errorf("what runs beside did not end within %v, and is cut off", closeTimeout)
	}
}

// announce tells what serves, and what somebody may not have meant.
func (s *server) announce() {
	c := s.config
	if c.Identity.PluginKeyStore.Type != "static" {
		store := cmp.Or(c.Identity.PluginKeyStore.Type, "memory")
		s.log.WithField("type", store).Warn("backend.auth.pluginKeyStore: " + keysInMemory)
	}
	if c.Identity.DangerouslyDisableDefaultAuthPolicy {
		s.log.Warn("backend.auth.dangerouslyDisableDefaultAuthPolicy: callers without a token are let in")
	}
	s.log.WithFields(logrus.Fields{
		"url": s.URL() + c.BasePath, "admin": s.AdminURL(), "version": version(),
	}).Info("serving")
}

// keysInMemory is what there is to know of keys that nobody configured.
const keysInMemory = "stagedoor has no database, so its keys are made in memory and known to this process alone; " +
	"more than one replica needs type: static, with the same keys for all"
