package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func newCompile() *cobra.Command {
	var flags localFlags
	cmd := &cobra.Command{
		Use:   "compile FILE",
		Short: "Prints what pipelines of a file are compiled to, as JSON",
		Long: `Prints what pipelines of a file (- is standard input) are compiled to: one JSON document for each pipeline that exec would
run with the same flags, in that order. Secrets are masked. Nothing is run, and Docker isn't needed.

Exit status: 0, or 2 if the file or the call is wrong.`,
		Example: `  drone-runner-sysbox compile --pipeline default .drone.yml | jq '.steps[].image'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, _, err := flags.plan(cmd.Context(), cmd, args[0])
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			out.SetEscapeHTML(false)
			for _, s := range plan.Stages {
				if s.Skip != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "pipeline %s is left out: %s\n", s.Pipeline.Name, s.Skip)
					continue
				}
				if err := out.Encode(s.Spec); err != nil {
					return failed(fmt.Errorf("print the spec of pipeline %q: %w", s.Pipeline.Name, err))
				}
			}
			return nil
		},
	}
	flags.register(cmd)
	return cmd
}
