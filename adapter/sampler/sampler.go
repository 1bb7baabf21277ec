// Package sampler keeps equal lines of log from flooding it. Refusals and failures, which
// anybody can cause, come in thousands. Of equal lines in ten seconds the first five are
// written, and in the end one that says how many more there were. None goes uncounted.
package sampler

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Sampler writes lines of log. The zero Sampler is for use. It is safe for concurrent use.
type Sampler struct {
	mu   sync.Mutex
	seen map[string]*sample // in this while
}

// sample is what came of one line in a while.
type sample struct {
	entry  *logrus.Entry // of the last one that was not written
	level  logrus.Level
	text   string
	lines  int
	missed int
}

const (
	// sampleTime is how long a while is, samples how many of equal lines are written in
	// one, and sampleKinds how many kinds of lines; whatever is of another kind counts
	// as one more.
	sampleTime  = 10 * time.Second
	samples     = 5
	sampleKinds = 64
)

// Log writes the line, or counts it. key is what makes lines equal.
func (s *Sampler) Log(entry *logrus.Entry, level logrus.Level, key, text string) {
	if s.pass(entry, level, key, text) {
		entry.Log(level, text)
	}
}

func (s *Sampler) pass(entry *logrus.Entry, level logrus.Level, key, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]*sample{}
		time.AfterFunc(sampleTime, s.Flush)
	}
	one, known := s.seen[key]
	if !known && len(s.seen) >= sampleKinds {
		key = "" // of all kinds that are too many
		one, known = s.seen[key]
	}
	if !known {
		one = &sample{}
		s.seen[key] = one
	}
	if one.lines < samples {
		one.lines++
		return true
	}
	one.missed++
	one.entry, one.level, one.text = entry, level, text
	return false
}

// Flush ends a while: it writes how many lines were only counted.
func (s *Sampler) Flush() {
	s.mu.Lock()
	seen := s.seen
	s.seen = nil
	s.mu.Unlock()
	for _, one := range seen {
		if one.missed > 0 {
			one.entry.WithField("more", one.missed).
				Log(one.level, one.text+"; as many more like this, of which this is the last")
		}
	}
}
