package policy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/tracing"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// newManager makes OPA's plugin manager over s, with OPA's own plugins as
// configured. They count in m what becomes of the decision log.
func newManager(d opaDocument, s *store, o Options, m metrics.Metrics) (*plugins.Manager, error) {
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
		plugins.Logger(opaLogger{o.Log}),
		plugins.ConsoleLogger(consoleLogger{opaLogger{o.Log.WithField("type", "decision")}}),
		plugins.WithParserOptions(ast.ParserOptions{ProcessAnnotation: true}),
		plugins.GracefulShutdownPeriod(gracefulStop),
		plugins.WithHooks(hook),
		plugins.WithDistributedTracingOpts(tracing.NewOptions(uploads{})), // any, so that it is asked
	}
	if o.Registry != nil {
		options = append(options, plugins.WithPrometheusRegister(o.Registry))
	}
	manager, err := plugins.New(raw, id.String(), s, options...)
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	for _, key := range d.idle() {
		o.Log.Warnf("%s has no effect: it is for OPA as a server", key)
	}
	discover, err := discovery.New(manager, discovery.Hooks(hook), discovery.BootConfig(d), discovery.Metrics(m),
		discovery.Factories(map[string]plugins.Factory{witnessName: witness{}}))
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	manager.Register(discovery.Name, discover)
	return manager, nil
}

// start starts the manager. OPA panics where it cannot make the folder of an OCI
// registry's layers.
func startManager(ctx context.Context, m *plugins.Manager) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("opa: %v", p)
		}
	}()
	return m.Start(ctx)
}

// opaLogger hands OPA's log lines to logrus, without what could be a secret. What
// OPA informs of is several lines for every poll and upload that went well, so
// that is for debugging.
type opaLogger struct{ entry *logrus.Entry }

func (l opaLogger) Debug(format string, args ...any) { l.log(logrus.DebugLevel, format, args) }
func (l opaLogger) Info(format string, args ...any)  { l.log(logrus.DebugLevel, format, args) }
func (l opaLogger) Warn(format string, args ...any)  { l.log(logrus.WarnLevel, format, args) }
func (l opaLogger) Error(format string, args ...any) { l.log(logrus.ErrorLevel, format, args) }

func (l opaLogger) log(level logrus.Level, format string, args []any) {
	if l.entry.Logger.IsLevelEnabled(level) {
		l.entry.Log(level, wire.WithoutSecrets(fmt.Sprintf(format, args...)))
	}
}

// WithFields returns a logger with the fields but for headers and bodies, of which
// OPA masks those headers alone that it knows.
func (l opaLogger) WithFields(fields map[string]any) logging.Logger {
	safe := make(logrus.Fields, len(fields))
	for name, value := range fields {
		switch text, isText := value.(string); {
		case name == "headers" || name == "response":
		case isText:
			safe[name] = wire.WithoutSecrets(text)
		default:
			safe[name] = value
		}
	}
	return opaLogger{l.entry.WithFields(safe)}
}

// GetLevel returns the level of stagedoor's log.
func (l opaLogger) GetLevel() logging.Level {
	switch {
	case l.entry.Logger.IsLevelEnabled(logrus.DebugLevel):
		return logging.Debug
	case l.entry.Logger.IsLevelEnabled(logrus.InfoLevel):
		return logging.Info
	case l.entry.Logger.IsLevelEnabled(logrus.WarnLevel):
		return logging.Warn
	}
	return logging.Error
}

// SetLevel does nothing: the level is stagedoor's, not a plugin's to set.
func (opaLogger) SetLevel(logging.Level) {}

// consoleLogger writes the events of the decision log and of the status, as they are.
type consoleLogger struct{ opaLogger }

// Info writes an event.
func (l consoleLogger) Info(format string, args ...any) { l.entry.Infof(format, args...) }

// WithFields returns a logger with the fields.
func (l consoleLogger) WithFields(fields map[string]any) logging.Logger {
	return consoleLogger{opaLogger{l.entry.WithFields(fields)}}
}
