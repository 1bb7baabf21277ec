package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/spool"
)

// logBytes is how much of the log waits at most while nobody takes it.
const logBytes = 4 << 20

// newLog logs to standard error.
func newLog(level logrus.Level) *logrus.Entry {
	log := logrus.New()
	log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	log.SetLevel(level)
	return logrus.NewEntry(log)
}

// newSpooledLog logs to standard error, which never makes anybody wait.
func newSpooledLog(level logrus.Level) (*logrus.Entry, *spool.Spool) {
	out := spool.New(os.Stderr, logBytes)
	log := newLog(level)
	log.Logger.SetOutput(out)
	return log, out
}

// dropped counts the lines of the log that were dropped.
func dropped(out *spool.Spool) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "stagedoor_log_lines_dropped_total", Help: "Lines of the log that standard error did not take.",
	}, func() float64 { return float64(out.Dropped()) })
}

// flush writes what of a log was not written yet, as far as it is taken in time.
func flush(out *spool.Spool) {
	ctx, cancel := context.WithTimeout(context.Background(), loggedTimeout)
	defer cancel()
	out.Flush(ctx)
}

// complain writes a last line to standard error, if that takes it in time.
func complain(err error) {
	out := spool.New(os.Stderr, logBytes)
	_, _ = fmt.Fprintln(out, "stagedoor:", err) // a spool takes all
	flush(out)
}
