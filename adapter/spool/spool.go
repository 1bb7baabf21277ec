// Package spool writes a log to where it may not be taken: a pipe that nobody reads,
// one that is closed, a disk that is full. Whoever logs never waits for it.
//
// A [Spool] holds a bounded number of bytes; what does not fit, and what could not be
// written, is dropped and counted.
package spool

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

// Spool is a writer that never waits. It is safe for concurrent use.
type Spool struct {
	out     io.Writer
	most    int // bytes
	mutex   sync.Mutex
	lines   [][]byte
	size    int           // of lines, in bytes
	arrived chan struct{} // of capacity 1: there are lines
	empty   chan struct{} // of capacity 1: all lines were written
	dropped atomic.Int64
}

// New returns a Spool that writes to out, and holds so many bytes at most.
func New(out io.Writer, most int) *Spool {
	s := &Spool{out: out, most: most, arrived: make(chan struct{}, 1), empty: make(chan struct{}, 1)}
	go s.run()
	return s
}

// Write takes a line, or drops it where there is no room. It never fails.
func (s *Spool) Write(line []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.size+len(line) > s.most {
		s.dropped.Add(1)
		return len(line), nil
	}
	s.lines = append(s.lines, append([]byte(nil), line...))
	s.size += len(line)
	notify(s.arrived)
	return len(line), nil
}

// Dropped is how many lines were dropped so far.
func (s *Spool) Dropped() int64 { return s.dropped.Load() }

// Flush returns when all that was taken has been written or dropped, and at the
// latest when ctx is done.
func (s *Spool) Flush(ctx context.Context) {
	for !s.idle() {
		select {
		case <-s.empty:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Spool) idle() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.size == 0
}

// run writes, as long as the process lives: a write that hangs cannot be ended.
func (s *Spool) run() {
	for range s.arrived {
		for line := s.next(); line != nil; line = s.next() {
			if _, err := s.out.Write(line); err != nil {
				s.dropped.Add(1)
			}
			s.written(len(line))
		}
		notify(s.empty)
	}
}

// next takes the oldest line. It counts until it is written.
func (s *Spool) next() []byte {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.lines) == 0 {
		s.lines = nil
		return nil
	}
	line := s.lines[0]
	s.lines = s.lines[1:]
	return line
}

func (s *Spool) written(size int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.size -= size
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
