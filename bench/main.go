//go:build linux

// Command bench measures stagedoor beside its neighbours, in one run and on
// loopback, each as a process of its own:
//
//   - the floor, the least that a permission backend can do: net/http, one ES256
//     signature verified, encoding/json, and ALLOW as the answer to everything
//     (floor.go);
//   - the stock OPA server with the same policy, which sees no token at all; its
//     batch is one query over all inputs;
//   - Backstage's own permission backend with the OPA wrapper module in front of
//     that OPA server, where Node and the packages of e2e/ are there.
//
// Run it at the root of the repository:
//
//	go run ./bench                     the neighbours, in some 30 minutes
//	go run ./bench -compare REV        the working tree beside a commit
//	go run ./bench start               from start to ready
//	go run ./bench soak                memory over a million requests of few users and of many
//	go run ./bench cold                what users notice of a deployment; -compare REV, too
//	go run ./bench scale               large policies
//	go run ./bench migrated            a policy that comes from RBAC beside the benchmark's own
//	go run ./bench shadow              what a candidate beside the policy costs, at half of saturation
//	go run ./bench observe             what 1 % of traces cost
//	go run ./bench users -users 100000 one replica with more users than it was made for
//	go run ./bench review              diff, matrix and replay for 5,000 people
//
// -h lists what can be chosen. Each writes Markdown to standard output, and -out
// DIR keeps it there with everything that was measured as JSON.
//
// # How it is measured
//
// A load is a number of connections that each send the next request when the last
// one is answered. So latency under many connections is mostly the time in the
// queue that they make themselves, and throughput is what the whole machine, load
// generator included, can do. Ratios to the floor are therefore kinder than ratios
// of CPU time, which are printed beside them.
//
// Targets take turns: one round is a slice of time for each, and there are several
// rounds. What is printed is the median of the rounds, and ratios are medians of
// the ratios within a round, so that whatever else the machine does befalls both.
// Percentiles are exact: every latency is kept.
//
// Plugins' tokens are signed anew for every request, as Backstage does, before the
// slice in which they are used; none is sent twice to a target. The user's token
// inside stays the same, as it does for a session.
//
// Every answer is counted and must have the length of the first, which was looked
// at closely. A target that answers anything else fails the run.
//
// The load generator shares the machine with what it measures, so it is made to
// spend little: one thread, prepared bytes, and no more of HTTP than telling where an
// answer ends. Of the usual ones, hey sends the same headers with every request, wrk
// as well unless a script makes each, and vegeta, which can vary them, estimates
// percentiles and spends about as much on a request as the server under test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	compare     string
	out         string
	round       time.Duration
	rounds      int
	requests    int
	scenarios   list
	connections ints
	users       ints
	gzip        bool
}

// measurements are what can be measured, and roles what this program is as a
// process that another one of it started.
var (
	measurements = map[string]func(context.Context, *bench) error{
		"":         neighbours,
		"start":    startToReady,
		"soak":     soak,
		"cold":     coldCaches,
		"scale":    scale,
		"review":   reviewAtScale,
		"migrated": migrated,
		"shadow":   shadow,
		"observe":  observe,
		"users":    manyUsers,
	}
	roles = map[string]func(ctx context.Context, args []string) error{
		"floor":     serveFloor,
		"backstage": serveBackstage,
		"policy":    measurePolicy,
	}
)

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && roles[args[0]] != nil {
		return roles[args[0]](ctx, args[1:])
	}
	o := options{connections: ints{1, 16, 64}, users: ints{1, 50, 5000}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.compare, "compare", "", "measure the working tree beside the commit `REV`, and no other neighbours but the floor")
	flags.StringVar(&o.out, "out", "", "keep JSON and Markdown in `DIR`")
	flags.DurationVar(&o.round, "round", time.Second, "how long a target is asked in each round")
	flags.IntVar(&o.rounds, "rounds", 5, "how many rounds")
	flags.IntVar(&o.requests, "requests", 1_000_000, "how many requests a soak sends")
	flags.Var(&o.scenarios, "scenario", "only these scenarios, such as one,fifty")
	flags.Var(&o.connections, "connections", "these numbers of connections")
	flags.Var(&o.users, "users", "these numbers of users")
	flags.BoolVar(&o.gzip, "gzip", false, "accept compressed answers, as Backstage's own client does")
	what := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		what, args = args[0], args[1:]
	}
	measure, ok := measurements[what]
	if !ok {
		return fmt.Errorf("there is no measurement %q", what)
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	return measure(ctx, b)
}

// list is a flag of words, and ints one of numbers, with commas between them.
type (
	list []string
	ints []int
)

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = strings.Split(s, ",")
	return nil
}

func (l *ints) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*l), " ", ","), "[]")
}

func (l *ints) Set(s string) error {
	*l = nil
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return fmt.Errorf("%q is no positive number", word)
		}
		*l = append(*l, n)
	}
	return nil
}

// bench is one run of this command.
type bench struct {
	options
	root string // of the repository
	dir  string // for what is built and logged, gone in the end
	self string // this program
	keys *keys

	stop []func() // in reverse
}

func newBench(ctx context.Context, o options) (*bench, error) {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stagedoor-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, root: root, dir: dir}
	b.later(func() { _ = os.RemoveAll(dir) })
	if b.self, err = os.Executable(); err == nil {
		b.keys, err = newKeys(dir)
	}
	if err == nil && o.out != "" {
		err = os.MkdirAll(o.out, 0o755)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// later has f done when the run ends, however it does.
func (b *bench) later(f func()) { b.stop = append(b.stop, f) }

func (b *bench) close() { b.unwind(0) }

// unwind ends what was started since there were n things to end.
func (b *bench) unwind(n int) {
	for len(b.stop) > n {
		last := len(b.stop) - 1
		b.stop[last]()
		b.stop = b.stop[:last]
	}
}

// build builds a command of the module in root and returns the path of it.
func (b *bench) build(ctx context.Context, root, name, pkg string) (string, error) {
	path := filepath.Join(b.dir, name)
	progress("building %s", name)
	_, err := output(ctx, root, "env", "CGO_ENABLED=0", "go", "build", "-o", path, pkg) // as make build does
	return path, err
}

// output runs a command and returns what it prints, without the line's end.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
