// Package pipeline is the way from what a server says about a stage to the spec that an engine
// runs: substitute, parse, pick the pipeline, lint, compile.
//
// The one rule to keep: the answer of a server, and the file in it, are somebody else's. Whatever
// they hold gives a spec or an error that names the place, never a panic.
package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drone/runner-go/client"
	"github.com/drone/runner-go/environ"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/linter"
)

// Loader holds what the operator configured. It may be used concurrently.
type Loader struct {
	// Compiler makes the specs. Its HostPaths and DockerPlugins are the linter's as well.
	Compiler *compiler.Compiler
	// RefusePrivileged makes privileged steps an error for trusted repositories too.
	RefusePrivileged bool
	// OpenSocket gives the docker socket to repositories that aren't trusted as well.
	OpenSocket bool
	// FileName is what findings call the file. Default: the repository's configured path, or
	// .drone.yml.
	FileName string
	// NoClone leaves the clone step out, whatever the file says: the sources are in the workspace
	// already.
	NoClone bool
	// Separation says which stages with Docker share a cell. Empty: all do.
	Separation sandbox.Separation
	// Skip reports which steps never run; nil skips none. Services and the clone step aren't asked
	// about.
	Skip func(step string) bool
	// NoteWarnings puts the warnings into the logs of the steps, where its author
	// looks. Otherwise the caller of Load shows them.
	NoteWarnings bool
}

// Load makes the spec of a stage from the server's details of it, or from a Context that the caller
// made up where there is no server. Whether the repository is trusted is d.Repo.Trusted.
//
// The findings are the warnings. When the file can't be run as it is, the error is a
// *resource.InvalidError that prints every reason; any other error is about the build or a
// provider.
func (l *Loader) Load(ctx context.Context, d *client.Context) (*spec.Spec, resource.Findings, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	f, err := l.Read(d)
	if err != nil {
		return nil, nil, err
	}
	return l.load(ctx, f, d)
}

// LoadFrom is Load of a file that Read has read before, for a stage of the same build.
func (l *Loader) LoadFrom(ctx context.Context, f *File, d *client.Context) (*spec.Spec, resource.Findings, error) {
	if err := check(d); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	data, err := l.substitute(d)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(data, f.data) { // ${DRONE_STAGE_NAME} is another one in each stage
		f = l.parse(d, data)
	}
	return l.load(ctx, f, d)
}

// load picks the pipeline of the stage, lints it and compiles it.
func (l *Loader) load(ctx context.Context, f *File, d *client.Context) (*spec.Spec, resource.Findings, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	p, err := f.Pipeline(d.Stage.Name)
	if err != nil {
		// A file that can't be read has no pipelines; what is wrong with it says more.
		if bad := f.Findings.Err(); bad != nil {
			return nil, f.Findings.Warnings(), bad
		}
		return nil, f.Findings.Warnings(), err
	}
	found := of(f.Findings, p.Name)
	args := compiler.Args{
		Pipeline: p,
		Manifest: f.Manifest(),
		Build:    d.Build,
		Stage:    d.Stage,
		Repo:     d.Repo,
		System:   d.System,
		Netrc:    d.Netrc,
		Secrets:  d.Secrets,
		Docker:   d.Repo.Trusted || l.OpenSocket,
		Skip:     l.Skip,
	}
	found = append(found, linter.Lint(f.Name, p, linter.Options{
		Trusted:          d.Repo.Trusted,
		RefusePrivileged: l.RefusePrivileged,
		OpenSocket:       l.OpenSocket,
		HostPaths:        l.compiler().HostPaths,
		DockerPlugins:    l.compiler().DockerPlugins,
		Absent:           args.NeverRuns,
	})...)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	found.Sort()
	if err := found.Err(); err != nil {
		return nil, found.Warnings(), err
	}
	if l.NoClone {
		// Only now: the file is right as it is, depends_on: [clone] included.
		cloned := *p
		cloned.Clone.Disable = true
		args.Pipeline = &cloned
	}
	if l.NoteWarnings {
		args.Warnings = found.Warnings()
	}
	s, err := l.compiler().Compile(ctx, args)
	if err != nil {
		return nil, found.Warnings(), fmt.Errorf("%s: %w", f.Name, err)
	}
	if s.NeedsDocker() {
		fork := d.Build.Fork != "" && d.Build.Fork != d.Repo.Slug
		s.Domain = l.Separation.Domain(d.Repo.Slug, d.Repo.Trusted, fork)
	}
	return s, found.Warnings(), nil
}

func (l *Loader) compiler() *compiler.Compiler {
	if l.Compiler == nil {
		return &compiler.Compiler{}
	}
	return l.Compiler
}

// Substitutions are the values of the ${VARIABLES} that are replaced in the file before it is
// parsed: what describes the build, and its parameters. now stands in for times that are still
// zero.
func Substitutions(d *client.Context, now time.Time) map[string]string {
	return environ.Combine(compiler.Metadata(d.System, d.Repo, d.Build, d.Stage, now), d.Build.Params)
}

// check names everything that the details of a stage lack.
func check(d *client.Context) error {
	if d == nil {
		return errors.New("the server's details of the stage are empty")
	}
	var missing []error
	for _, field := range []struct {
		name   string
		absent bool
	}{
		{"build", d.Build == nil},
		{"stage", d.Stage == nil},
		{"config", d.Config == nil},
		{"repository", d.Repo == nil},
		{"system", d.System == nil},
	} {
		if field.absent {
			missing = append(missing, fmt.Errorf("the server's details of the stage have no %q: is it a Drone "+
				"server of version 1 or later that answered?", field.name))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	if len(d.Config.Data) == 0 {
		return errors.New("the server's details of the stage hold an empty configuration file: check that the " +
			"repository's configuration path names a file")
	}
	return nil
}

// of are the findings that concern a pipeline: its own, and the file's.
func of(found resource.Findings, pipeline string) resource.Findings {
	var out resource.Findings
	for _, f := range found {
		if f.Pipeline == "" || f.Pipeline == pipeline {
			out = append(out, f)
		}
	}
	return out
}
