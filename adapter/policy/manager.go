package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/sirupsen/logrus"
)

// opaConfig checks OPA's configuration for what would get past the vetting, and
// fills in what stagedoor ships with other defaults than OPA.
func (o Options) opaConfig() (map[string]any, error) {
	document := map[string]any{}
	if len(bytes.TrimSpace(o.OPA)) > 0 {
		if err := json.Unmarshal(o.OPA, &document); err != nil {
			return nil, fmt.Errorf("opa: %w", err)
		}
	}
	_, bundles := document["bundles"]
	if o.Path != "" && bundles {
		return nil, errors.New("stagedoor.policy.path and opa.bundles both say where the policy is: keep one")
	}
	if err := refuseLegacyBundle(document["bundle"] != nil); err != nil {
		return nil, err
	}
	return document, o.auditDefaults(document)
}

// auditDefaults fills in what suits decisions about people on every page load
// better than OPA's own defaults, which are an unlimited buffer and a delay of
// up to ten minutes. Where recording is required stagedoor itself says when to send.
func (o Options) auditDefaults(document map[string]any) error {
	log, configured := document["decision_logs"].(map[string]any)
	if !configured {
		if o.AuditRequired {
			return errors.New("stagedoor.audit.required: opa.decision_logs says nowhere where to record decisions")
		}
		return nil
	}
	reporting, _ := log["reporting"].(map[string]any)
	if reporting == nil {
		reporting = map[string]any{}
	}
	defaults := map[string]any{"trigger": "immediate"}
	if reporting["buffer_type"] == nil && reporting["buffer_size_limit_bytes"] == nil {
		defaults["buffer_type"] = "event"
	}
	if reporting["min_delay_seconds"] == nil && reporting["max_delay_seconds"] == nil {
		defaults["min_delay_seconds"], defaults["max_delay_seconds"] = 1, 5
	}
	maps.Copy(defaults, reporting)
	if o.AuditRequired {
		if log["plugin"] != nil || defaults["buffer_type"] != "event" {
			return errors.New("stagedoor.audit.required: it needs opa.decision_logs without a plugin and with the event buffer")
		}
		defaults["trigger"] = "manual"
		log["plugin"] = witnessName
		document["plugins"] = map[string]any{witnessName: map[string]any{}}
	}
	log["reporting"] = defaults
	return nil
}

// refuseLegacyBundle refuses the older singular key: OPA activates such a bundle
// by a way of its own that no activator sees.
func refuseLegacyBundle(present bool) error {
	if present {
		return errors.New("opa.bundle: this older key gets past the vetting of policies; name the bundle under opa.bundles")
	}
	return nil
}

// configHook holds configuration that arrives by discovery to the same rules.
type configHook struct{}

func (configHook) OnConfigDiscovery(_ context.Context, c *config.Config) (*config.Config, error) {
	return c, refuseLegacyBundle(c.Bundle != nil)
}

// newManager makes OPA's plugin manager over s, with OPA's own plugins as configured.
func newManager(document map[string]any, s *store, o Options) (*plugins.Manager, error) {
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	hook := hooks.New(configHook{})
	options := []func(*plugins.Manager){
		plugins.Logger(opaLogger{o.Log}),
		plugins.ConsoleLogger(opaLogger{o.Log.WithField("type", "decision")}),
		plugins.WithParserOptions(ast.ParserOptions{ProcessAnnotation: true}),
		plugins.GracefulShutdownPeriod(gracefulStop),
		plugins.WithHooks(hook),
	}
	if o.Registry != nil {
		options = append(options, plugins.WithPrometheusRegister(o.Registry))
	}
	manager, err := plugins.New(raw, id.String(), s, options...)
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	d, err := discovery.New(manager, discovery.Hooks(hook), discovery.BootConfig(document),
		discovery.Factories(map[string]plugins.Factory{witnessName: witness{}}))
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	manager.Register(discovery.Name, d)
	return manager, nil
}

// opaLogger hands OPA's log lines to logrus.
type opaLogger struct{ entry *logrus.Entry }

func (l opaLogger) Debug(format string, args ...any) { l.entry.Debugf(format, args...) }
func (l opaLogger) Info(format string, args ...any)  { l.entry.Infof(format, args...) }
func (l opaLogger) Warn(format string, args ...any)  { l.entry.Warnf(format, args...) }
func (l opaLogger) Error(format string, args ...any) { l.entry.Errorf(format, args...) }

func (l opaLogger) WithFields(fields map[string]any) logging.Logger {
	return opaLogger{l.entry.WithFields(fields)}
}

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
