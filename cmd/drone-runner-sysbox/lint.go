package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/linter"
)

func newLint() *cobra.Command {
	var options linter.Options
	var dockerPlugins []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint FILE…",
		Short: "Prints everything that is wrong with files",
		Long: `Prints everything that is wrong with files (- is standard input), one finding a line:

  FILE:LINE:COLUMN: error: pipeline "NAME": step "NAME": KEY: what is wrong and what to write instead

A warning names something that has no effect, or another one than it seems, or that Drone's server refuses; a build
runs with it here. ${VARIABLES} stand
for those of a made-up build in which every one has a value.

Exit status: 0 there is no error (warnings don't count), 2 there is one, or a file can't be read.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options.DockerPlugins = slices.Concat(compiler.DefaultDockerPlugins(), dockerPlugins)
			all := resource.Findings{}
			var unread []error
			for _, path := range args {
				data, name, err := readFile(cmd.InOrStdin(), path)
				if err != nil {
					unread = append(unread, err)
					continue
				}
				all = append(all, pipeline.Lint(name, data, options)...)
			}
			if err := printFindings(cmd.OutOrStdout(), all, asJSON); err != nil {
				return failed(fmt.Errorf("print the findings: %w", err))
			}
			if err := errors.Join(unread...); err != nil {
				return err
			}
			if len(all.Errors()) > 0 {
				return told(exitWrong)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.Trusted, "trusted", false, "allow what a server allows trusted repositories alone")
	flags.BoolVar(&options.RefusePrivileged, "refuse-privileged", false, "refuse privileged steps of trusted repositories too, as DRONE_RUNNER_PRIVILEGED=refuse does")
	flags.StringSliceVar(&options.HostPaths, "host-path", nil, "folder that host volumes may bind, as in DRONE_RUNNER_HOST_PATHS (repeatable)")
	flags.StringSliceVar(&dockerPlugins, "docker-plugin", nil, "image that builds images as plugins/docker does, as in DRONE_RUNNER_DOCKER_PLUGINS (repeatable)")
	flags.BoolVar(&asJSON, "json", false, "print a JSON array of the findings")
	return cmd
}

func printFindings(out io.Writer, found resource.Findings, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(found)
	}
	for _, f := range found {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return err
		}
	}
	return nil
}
