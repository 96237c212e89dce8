package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
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
				all = append(all, lint(name, data, options)...)
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

// lint finds what is wrong with a file, in its order.
func lint(name string, data []byte, o linter.Options) resource.Findings {
	wrong := func(message string) resource.Findings {
		return resource.Findings{{Severity: resource.Error, File: name, Message: message}}
	}
	if pipeline.Converted(name) {
		return wrong("this isn't YAML, but what Drone's server converts to YAML, with lines of its own: lint what comes out, as in: drone starlark convert --stdout | drone-runner-sysbox lint -")
	}
	substituted, err := resource.Substitute(data, pipeline.Substitutions(sampleBuild(), time.Now()))
	if err != nil {
		return wrong(err.Error())
	}
	file, found := resource.Parse(name, substituted)
	if len(file.Pipelines)+len(file.Others)+len(file.Secrets)+len(found) == 0 {
		return wrong("the file holds no pipeline: write a document with kind: pipeline, type: docker, a name and steps")
	}
	for _, p := range file.Pipelines {
		found = append(found, linter.Lint(name, p, o)...)
	}
	_, circles := inOrder(file, file.Pipelines)
	found = append(found, circles...)
	found.Sort()
	return found
}

// sampleBuild has a value for every variable, so that image: app:${DRONE_TAG} is read as what it is in the build that it was written for.
func sampleBuild() *client.Context {
	return &client.Context{
		Build: &drone.Build{
			ID: 1, RepoID: 1, Number: 1, Status: drone.StatusRunning, Trigger: "@hook",
			Event: drone.EventTag, Action: "opened", Link: "https://git.example.com/octocat/hello/commit/1",
			Title: "title", Message: "message", Before: strings.Repeat("0", 40), After: strings.Repeat("1", 40), Ref: "refs/tags/v1.0.0",
			Source: "main", Target: "main", Fork: "octocat/hello",
			Author: "octocat", AuthorName: "octocat", AuthorEmail: "octocat@example.com", AuthorAvatar: "https://git.example.com/octocat.png", Sender: "octocat",
			Cron: "nightly", Deploy: "production", DeployID: 1, Parent: 1, Created: 1, Started: 1, Finished: 1, Updated: 1,
		},
		Stage: &drone.Stage{
			ID: 1, BuildID: 1, Number: 1, Name: "default", Kind: "pipeline", Type: "docker", Status: drone.StatusRunning,
			OS: "linux", Arch: runtime.GOARCH, Machine: "runner", Created: 1, Started: 1,
		},
		Repo: &drone.Repo{
			ID: 1, Namespace: "octocat", Name: "hello", Slug: "octocat/hello", SCM: "git", Branch: "main", Config: defaultFile, Visibility: "public",
			HTTPURL: "https://git.example.com/octocat/hello.git", SSHURL: "git@git.example.com:octocat/hello.git", Link: "https://git.example.com/octocat/hello",
		},
		System: &drone.System{Proto: "https", Host: "drone.example.com", Link: "https://drone.example.com", Version: "2.0.0"},
	}
}
