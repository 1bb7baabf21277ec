package opa

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/peer"
)

// logger hands OPA's log lines to logrus, without what could be a secret. What
// OPA informs of is several lines for every poll and upload that went well, so
// that is for debugging.
type logger struct{ entry *logrus.Entry }

func (l logger) Debug(format string, args ...any) { l.log(logrus.DebugLevel, format, args) }
func (l logger) Info(format string, args ...any)  { l.log(logrus.DebugLevel, format, args) }
func (l logger) Warn(format string, args ...any)  { l.log(logrus.WarnLevel, format, args) }
func (l logger) Error(format string, args ...any) { l.log(logrus.ErrorLevel, format, args) }

func (l logger) log(level logrus.Level, format string, args []any) {
	if l.entry.Logger.IsLevelEnabled(level) {
		l.entry.Log(level, peer.WithoutSecrets(fmt.Sprintf(format, args...)))
	}
}

// WithFields returns a logger with the fields but for headers and bodies, of which
// OPA masks those headers alone that it knows.
func (l logger) WithFields(fields map[string]any) logging.Logger {
	safe := make(logrus.Fields, len(fields))
	for name, value := range fields {
		switch text, isText := value.(string); {
		case name == "headers" || name == "response":
		case isText:
			safe[name] = peer.WithoutSecrets(text)
		default:
			safe[name] = value
		}
	}
	return logger{l.entry.WithFields(safe)}
}

// GetLevel returns the level of stagedoor's log.
func (l logger) GetLevel() logging.Level {
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
func (logger) SetLevel(logging.Level) {}

// consoleLogger writes the events of the decision log and of the status, as they are.
type consoleLogger struct{ logger }

// console writes events to where the log goes, whatever the level of that: who logs less
// does not mean the record of decisions.
func console(log *logrus.Entry) consoleLogger {
	events := logrus.New()
	events.SetOutput(log.Logger.Out)
	events.SetFormatter(log.Logger.Formatter)
	return consoleLogger{logger{events.WithFields(log.Data).WithField("type", "decision")}}
}

// Info writes an event.
func (l consoleLogger) Info(format string, args ...any) { l.entry.Infof(format, args...) }

// WithFields returns a logger with the fields.
func (l consoleLogger) WithFields(fields map[string]any) logging.Logger {
	return consoleLogger{logger{l.entry.WithFields(fields)}}
}
