package main

import (
	"errors"
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
	testscript.Main(m, map[string]func(){"stagedoor": main})
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
