// Package opa is OPA's own machinery, with what stagedoor needs of it put right:
// its configuration, checked and with other defaults; its plugin manager with the
// plugins for bundles, discovery, decision log and status; its log lines without
// secrets; and a witness of which events get through the decision log's masks.
//
// It brings no policy to power: whoever has the store that the plugins activate into
// says what becomes of that (package supply).
package opa

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tracing"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// Options say how OPA's plugins run. The zero value of a field is its default.
type Options struct {
	// Config is OPA's own configuration as JSON, verbatim (opa).
	Config json.RawMessage
	// AuditRequired is whether every decision has to be recorded before it is answered
	// (stagedoor.audit.required), which bounds what decision_logs may say.
	AuditRequired bool
}

// gracefulStop is how many seconds OPA's plugins may flush what they hold when they
// are stopped.
const gracefulStop = 10

// ParserOptions are those that policies are parsed with.
func ParserOptions() ast.ParserOptions { return ast.ParserOptions{ProcessAnnotation: true} }

// Manager is OPA's plugin manager with the plugins as configured.
type Manager struct {
	*plugins.Manager
	// Counters count what becomes of the events of the decision log.
	Counters metrics.Metrics

	uploads    *uploadCounters
	policyKeys []string
	started    bool
}

// New makes the manager over the store that bundles are to be activated into. OPA's
// lines go to the log, without secrets, and its metrics to the registry, which can be
// nil. Nothing runs before Start.
func New(o Options, store storage.Store, log *logrus.Entry, registry prometheus.Registerer) (*Manager, error) {
	d, err := o.document()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	hook := hooks.New(discovered{})
	registerUploads()
	options := []func(*plugins.Manager){
		plugins.Logger(logger{log}),
		plugins.ConsoleLogger(console(log)),
		plugins.WithParserOptions(ParserOptions()),
		plugins.GracefulShutdownPeriod(gracefulStop),
		plugins.WithHooks(hook),
		plugins.WithDistributedTracingOpts(tracing.NewOptions(uploads{})), // any, so that it is asked
	}
	if registry != nil {
		options = append(options, plugins.WithPrometheusRegister(&registerer{Registerer: registry}))
	}
	manager, err := plugins.New(raw, id.String(), store, options...)
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	counters := &uploadCounters{Metrics: metrics.New()}
	m := &Manager{Manager: manager, Counters: counters, uploads: counters, policyKeys: d.policyKeys()}
	discover, err := discovery.New(manager, discovery.Hooks(hook), discovery.BootConfig(d), discovery.Metrics(m.Counters),
		discovery.Factories(map[string]plugins.Factory{witnessName: witness{}}))
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	manager.Register(discovery.Name, discover)
	var recorded *logs.Config
	if plugin := logs.Lookup(manager); plugin != nil {
		recorded = plugin.Config()
	}
	return m, o.checkRequired(recorded)
}

// BringsPolicy reports whether the configuration that it was made of says where a
// policy is.
func (m *Manager) BringsPolicy() bool { return len(m.policyKeys) > 0 }

// LogFails reports whether the receiver of the decision log did not take what was sent
// last.
func (m *Manager) LogFails() bool { return m.uploads.failed.Load() }

// Start starts the plugins. Stop must be called in the end.
func (m *Manager) Start(ctx context.Context) (err error) {
	// OPA panics where it cannot make the folder of an OCI registry's layers.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("opa: %v", p)
		}
		m.started = err == nil
	}()
	return m.Manager.Start(ctx)
}

// Stop lets the plugins flush what they hold, and ends them. It does nothing where
// they were not started: OPA's would wait for ever.
func (m *Manager) Stop(ctx context.Context) {
	if m.started {
		m.Manager.Stop(ctx)
	}
}
