//go:build linux

// Command faults runs the real binary, under load, between neighbours that refuse, are
// slow, hang, close halfway, flap, or answer garbage, wrong, huge or 500. It also does
// to it what takes authorization down for everybody elsewhere: floods, answers without
// an end, clients that do not read, a log that nobody takes, restarts.
//
// Run it at the root of the repository:
//
//	go run ./faults                    every row, in some six minutes
//	go run ./faults -short             those of CI
//	go run ./faults -run '^auth|disk'  the rows whose names match
//	go run ./faults -list              the names
//
// Everything listens on loopback and ends with the run: stagedoor as it is built, a
// sample Backstage, a bundle server, the stock OPA server, a receiver of decision logs.
// Before each neighbour stands a gate, which does to the connections what a row says.
//
// # How it is judged
//
// Each question has the answer that it gets without faults. It is written down here for
// the result, and learned from the first answer for the rest. Every later answer is held
// to it: one that permits more is a wrong ALLOW, and any other that is not the same is
// unlike. A failure is an error. It counts against stagedoor where the question does not
// need the neighbour that is at fault. Recovery is the time from the end of the fault
// until the question that needs the neighbour is answered as before.
//
// The exit status is 1 where an answer was wrong, where nothing recovered, or where a
// figure is not within its target. The load generator and all neighbours share the
// machine with stagedoor, so latencies are worse than they are elsewhere.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	match    *regexp.Regexp
	short    bool
	list     bool
	duration time.Duration
	parallel int
}

// row is one thing that is done to stagedoor.
type row struct {
	name string
	what string
	// short has it run in the short form too.
	short bool
	// alone has nothing else run meanwhile, since it measures time.
	alone bool
	// neighbour has it stand in the table of neighbours.
	neighbour bool
	run       func(ctx context.Context, r *rig) ([]figure, error)
}

// figure is what a row shows.
type figure struct {
	what, got, want string
	ok              bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	match := flags.String("run", "", "only the rows whose names match this `expression`")
	flags.BoolVar(&o.short, "short", false, "the form of CI: few neighbours' faults, and the rows that take little time")
	flags.BoolVar(&o.list, "list", false, "list the rows")
	flags.DurationVar(&o.duration, "duration", 0, "how long a neighbour is at fault, and other load goes on (default 3s, short 1s)")
	flags.IntVar(&o.parallel, "parallel", 3, "how many rows of neighbours at a time")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.duration == 0 {
		o.duration = 3 * time.Second
		if o.short {
			o.duration = time.Second
		}
	}
	var err error
	o.match, err = regexp.Compile(*match)
	return o, err
}

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "flood" { // which it starts itself
		return flooding(ctx, args[1:])
	}
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	chosen := choose(o)
	if o.list {
		for _, row := range chosen {
			fmt.Printf("%-26s %s\n", row.name, row.what)
		}
		return nil
	}
	if len(chosen) == 0 {
		return errors.New("no row has such a name")
	}
	dir, err := os.MkdirTemp("", "stagedoor-faults-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Another user may have to read what is there.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	h := &house{options: o, dir: dir}
	if err := h.build(ctx); err != nil {
		return err
	}
	return h.judge(ctx, chosen)
}

// choose returns the rows that are to run.
func choose(o options) []row {
	var chosen []row
	for _, row := range rows() {
		if (!o.short || row.short) && o.match.MatchString(row.name) {
			chosen = append(chosen, row)
		}
	}
	return chosen
}

// rows are all there are: neighbours first, and then what the issue asks for.
func rows() []row {
	all := neighbours()
	all = append(all, floods()...)
	all = append(all, lives()...)
	all = append(all, supplies()...)
	return append(all, transports()...)
}

// house is what all rows share.
type house struct {
	options
	dir    string // for what is built and logged, gone in the end
	binary string // stagedoor
	opa    string // the stock OPA
	bench  string // for its floor
}

// build builds what runs, into the folder of what the Makefile builds.
func (h *house) build(ctx context.Context) error {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	bin := filepath.Join(root, "bin")
	h.binary, h.opa, h.bench = filepath.Join(bin, "faults-stagedoor"), filepath.Join(bin, "opa"), filepath.Join(bin, "faults-bench")
	for file, pkg := range map[string]string{h.binary: "./cmd/stagedoor", h.opa: "github.com/open-policy-agent/opa", h.bench: "./bench"} {
		if _, err := output(ctx, root, "env", "CGO_ENABLED=0", "go", "build", "-o", file, pkg); err != nil {
			return err
		}
	}
	return nil
}

// progress tells whoever waits how far it is.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+strings.TrimSpace(format)+"\n", args...)
}
