package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestWritesInOrder(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, 1<<20)
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(s, "%d\n", i)
		fmt.Fprintf(&want, "%d\n", i)
	}
	s.Flush(t.Context())
	if out.String() != want.String() || s.Dropped() != 0 {
		t.Errorf("%d bytes, want %d; %d dropped", out.Len(), want.Len(), s.Dropped())
	}
}

// TestNobodyReads writes to a pipe that nobody reads, from many sides.
func TestNobodyReads(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s := New(write, 100_000)
	line := []byte(strings.Repeat("x", 999) + "\n")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				_, _ = s.Write(line)
			}
		})
	}
	group.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.Flush(ended) // which returns
	go func() { s.Flush(t.Context()); _ = write.Close() }()
	text, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	taken := len(text) / len(line)
	if int(s.Dropped())+taken != 8000 || taken < 100 || taken > 1000 {
		t.Errorf("%d written and %d dropped, of 8000", taken, s.Dropped())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestFailures(t *testing.T) {
	s := New(failing{}, 1000)
	for range 5 {
		_, _ = s.Write([]byte("line\n"))
	}
	s.Flush(t.Context())
	if s.Dropped() != 5 {
		t.Errorf("%d dropped", s.Dropped())
	}
}
