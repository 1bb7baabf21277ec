// Stagedoor is the permission backend for Backstage that lets a security team
// write the policy in Rego. Run `stagedoor help` for its commands.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	runtime.MemProfileRate = 0 // nothing reads the profile, and it takes a megabyte
	os.Exit(run())
}

// run is the whole command, from the process's arguments to its exit code.
func run() int {
	signal.Ignore(syscall.SIGPIPE) // who reads standard error may go
	ctx, stop := untilSignalled(context.Background())
	defer stop()
	switch err := newRoot().ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errFindings): // which the command has told
		return exitFindings
	default:
		complain(err)
		return exitFailed
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "stagedoor",
		Short:         "The permission backend for Backstage, with the policy in Rego",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newServe(),
		newCheck(),
		newEval(),
		newExplain(),
		newInit(),
		newInventory(),
		newTest(),
		newDiff(),
		newMigrate(),
		newMatrix(),
		newReplay(),
		newRules(),
		newVersion(),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetVersionTemplate("{{.Version}}\n") // as the command version prints it
	return root
}
