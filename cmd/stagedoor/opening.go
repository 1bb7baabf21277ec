package main

import (
	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reach"
)

// openingFlags are the flags of how a command opens a policy.
func openingFlags(cmd *cobra.Command, o *offline.Options) {
	deciding(cmd, &o.Entrypoint, &o.Reach)
}

// deciding are the flags for what the configuration of a server says under
// stagedoor.policy, where it matters to what a policy decides.
func deciding(cmd *cobra.Command, entrypoint *string, reaches *reach.Options) {
	f := cmd.Flags()
	f.StringVar(entrypoint, "entrypoint", "", "the `path` of the rule that decides, where none is annotated")
	f.StringArrayVar(&reaches.AllowNet, "allow-net", nil,
		"a `host` that the policy may reach, as in stagedoor.policy.capabilities.allowNet")
	f.StringArrayVar(&reaches.AllowBuiltins, "allow-builtin", nil,
		"a `builtin` that the policy may call, as in stagedoor.policy.capabilities.allowBuiltins")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := reaches.Validate(); err != nil {
			return err
		}
		return run(cmd, args)
	}
}
