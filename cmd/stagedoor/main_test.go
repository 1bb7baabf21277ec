package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a test waits for what a busy machine is slow to do.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(asShipped{m}, map[string]func(){"stagedoor": main})
}

// asShipped are tests that find, as stagedoor on the PATH, the binary as it is shipped, also
// where they are built to find races. It decides ten times as fast then, and what bounds
// itself by time, as check does, gets as far as it does for people. The rooms have tests of
// their own to find races in, and servers are started from this test's binary.
type asShipped struct{ *testing.M }

func (m asShipped) Run() int {
	if raced {
		dir, err := os.MkdirTemp("", "stagedoor")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if out, err := exec.Command("go", "build", "-o", dir, ".").CombinedOutput(); err != nil {
			panic(fmt.Sprintf("go build: %v\n%s", err, out))
		}
		if err := os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
			panic(err)
		}
	}
	return m.M.Run()
}

// TestScripts runs the binary as a person would; the scripts are files.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("..", "..", "testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			examples, err := filepath.Abs(filepath.Join("..", "..", "testdata", "migrate"))
			env.Setenv("POLICIES", examples)
			env.Setenv("STAGEDOOR_MUTANT", os.Getenv("STAGEDOOR_MUTANT")) // for soundness/mutants
			job, cannot := filepath.Abs(filepath.Join("..", "..", "deploy", "ci", "review.sh"))
			env.Setenv("REVIEW", job)
			return errors.Join(err, cannot)
		},
	})
}

// exits runs stagedoor and wants an exit code: exits CODE ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	code := "0"
	err := ts.Exec("stagedoor", args[1:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}
