package main

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/supply"
)

// configured is what came of reading the configuration, for /status and the metrics.
type configured struct {
	now     func() time.Time
	current atomic.Pointer[supply.Configuration]
}

// newConfigured is after the first reading, which was good.
func newConfigured(now func() time.Time) *configured {
	c := &configured{now: now}
	c.current.Store(&supply.Configuration{Read: now()})
	return c
}

// counts notes that what was read counts, but for these keys.
func (c *configured) counts(afterRestart []string) {
	c.current.Store(&supply.Configuration{Read: c.now(), AfterRestart: afterRestart})
}

// refused notes that what was read does not count, or in part alone, and why.
func (c *configured) refused(why error) {
	next := *c.current.Load()
	next.Refused, next.RefusedAt = why.Error(), c.now()
	c.current.Store(&next)
}

// in is a status with it.
func (c *configured) in(status func() supply.Status) func() supply.Status {
	return func() supply.Status {
		told := status()
		told.Configuration = c.current.Load()
		return told
	}
}

// reload reads the configuration anew and takes over what of it can change while
// serving: log level, keys, certificates, the operators' tokens, and where plugins are. Where anything is
// wrong with it, all goes on as it was.
func (s *server) reload(load loader) {
	next, err := carefully(load)
	if err == nil && len(s.config.AdminTokens) > 0 && len(next.AdminTokens) == 0 {
		err = errors.New("stagedoor.admin.token: there was one, and there is none any more: without it every process of " +
			"this machine is an operator, which takes a restart")
	}
	if err == nil {
		err = errors.Join(s.listener.CanReload(next.Endpoint.TLS), s.admin.CanReload(next.Admin.TLS))
	}
	if err != nil {
		s.tell("the configuration is refused, and the old one goes on", err)
		return
	}
	// All of it was checked; what fails now has changed since.
	err = errors.Join(
		s.places.Replace(next.Discovery), s.identity.RenewKeys(next.Identity.PluginKeyStore),
		s.listener.Reload(next.Endpoint.TLS), s.admin.Reload(next.Admin.TLS),
	)
	s.api.RenewTokens(next.AdminTokens)
	s.log.Logger.SetLevel(next.LogLevel)
	later := s.config.AfterRestart(next)
	if len(later) > 0 {
		s.log.WithField("after_restart", later).Warn("keys have changed that count after a restart alone")
	}
	if err != nil {
		s.tell("the configuration was read anew, in part", err)
		return
	}
	s.configured.counts(later)
	s.tell("the configuration was read anew", nil)
}

// carefully loads, and takes a panic for an error: what serves is not to end by what was
// written beside it.
func carefully(load loader) (c *config.Config, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			c, err = nil, panicked
		}
	}()
	return load()
}

// tell tells the service manager, /status, the metrics and the log what came of a reload.
// The command that asks for one succeeds in any case.
func (s *server) tell(what string, err error) {
	if err == nil {
		s.notify("STATUS=" + what)
		s.log.Info(what)
		return
	}
	s.configured.refused(err)
	s.notify("STATUS=" + what + ": " + strings.ReplaceAll(err.Error(), "\n", "; "))
	s.log.WithError(err).Error(what)
}
