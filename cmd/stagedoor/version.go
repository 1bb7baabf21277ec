package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets these in a release and in `make build` (-X main.release=…,
// -X main.commit=…). Elsewhere they are empty, and the Go command's own stamp counts.
var release, commit string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and the commit",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// version names the build by version and commit, such as "v1.2.3 (e9bb4ce…)". What
// is not known is "devel" and "unknown commit".
func version() string {
	named, at := release, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if named == "" && info.Main.Version != "(devel)" {
			named = info.Main.Version
		}
		if at == "" {
			at = stampedCommit(info)
		}
	}
	if named == "" {
		named = "devel"
	}
	if at == "" {
		at = "unknown commit"
	}
	return fmt.Sprintf("%s (%s)", named, at)
}

// stampedCommit is the commit that the Go command found in the checkout, with a
// mark where files of it were changed, or empty.
func stampedCommit(info *debug.BuildInfo) string {
	var at, mark string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			at = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			mark = "-dirty"
		}
	}
	if at == "" {
		return ""
	}
	return at + mark
}
