// Package pipeline is the way from what a server says about a stage to the spec that an engine runs: substitute, parse, pick the
// pipeline, lint, compile.
//
// The one rule to keep: the answer of a server, and the file in it, are somebody else's. Whatever they hold gives a spec or an error that names
// the place, never a panic.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
	"github.com/drone/runner-go/environ"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/linter"
)

// Loader holds what the operator configured. It may be used concurrently.
type Loader struct {
	// Compiler makes the specs. Its HostPaths are the linter's as well.
	Compiler *compiler.Compiler
	// RefusePrivileged makes privileged steps an error for trusted repositories too.
	RefusePrivileged bool
	// OpenSocket gives the docker socket to repositories that aren't trusted as well.
	OpenSocket bool
	// FileName is what findings call the file. Default: the repository's configured path, or .drone.yml.
	FileName string
	// NoClone leaves the clone step out, whatever the file says: the sources are in the workspace already.
	NoClone bool
	// Skip tells which steps never run; nil skips none. Services and the clone step aren't asked about.
	Skip func(step string) bool
}

// Load makes the spec of a stage from the server's details of it, or from a Context that the caller made up where there is no server. Whether the
// repository is trusted is d.Repo.Trusted.
//
// The findings are the warnings, for the caller to show. When the file can't be run as it is, the error is a *resource.InvalidError that prints every reason; any
// other error is about the build or a provider.
func (l *Loader) Load(ctx context.Context, d *client.Context) (*spec.Spec, resource.Findings, error) {
	if err := check(d); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	name := l.fileName(d.Repo)
	data, err := resource.Substitute(d.Config.Data, Substitutions(d, l.compiler().Time()))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	file, found := resource.Parse(name, data)
	p, err := file.Pipeline(d.Stage.Name)
	if err != nil {
		// A file that can't be read has no pipelines; what is wrong with it says more.
		if bad := found.Err(); bad != nil {
			return nil, found.Warnings(), bad
		}
		return nil, found.Warnings(), err
	}
	found = append(of(found, p.Name), linter.Lint(name, p, linter.Options{
		Trusted:          d.Repo.Trusted,
		RefusePrivileged: l.RefusePrivileged,
		OpenSocket:       l.OpenSocket,
		HostPaths:        l.compiler().HostPaths,
	})...)
	if l.NoClone {
		// Only now: the file is right as it is, depends_on: [clone] included.
		p.Clone.Disable = true
	}
	args := compiler.Args{
		Pipeline: p,
		Manifest: file.Manifest(),
		Build:    d.Build,
		Stage:    d.Stage,
		Repo:     d.Repo,
		System:   d.System,
		Netrc:    d.Netrc,
		Secrets:  d.Secrets,
		Docker:   d.Repo.Trusted || l.OpenSocket,
		Skip:     l.Skip,
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	excuseImages(found, args)
	found.Sort()
	if err := found.Err(); err != nil {
		return nil, found.Warnings(), err
	}
	s, err := l.compiler().Compile(ctx, args)
	if err != nil {
		return nil, found.Warnings(), fmt.Errorf("%s: %w", name, err)
	}
	return s, found.Warnings(), nil
}

// excuseImages makes warnings of the errors about images that this build doesn't run: "app:${DRONE_TAG}" is the name of an image in builds of a tag, and in others the
// step that uses it is left out.
func excuseImages(found resource.Findings, a compiler.Args) {
	if !slices.ContainsFunc(found, func(f resource.Finding) bool { return f.Key == "image" }) {
		return
	}
	unused := map[string]bool{}
	for _, s := range slices.Concat(a.Pipeline.Services, a.Pipeline.Steps) {
		if s != nil && s.Image != "" && compiler.NeverRuns(s, a) {
			unused[s.Name] = true
		}
	}
	for i, f := range found {
		if f.Key == "image" && unused[f.Step] {
			found[i].Severity = resource.Warning
		}
	}
}

func (l *Loader) compiler() *compiler.Compiler {
	if l.Compiler == nil {
		return &compiler.Compiler{}
	}
	return l.Compiler
}

func (l *Loader) fileName(repo *drone.Repo) string {
	switch {
	case l.FileName != "":
		return l.FileName
	case repo.Config != "":
		return repo.Config
	default:
		return ".drone.yml"
	}
}

// Substitutions are the values of the ${VARIABLES} that are replaced in the file before it is parsed: what describes the build, and its parameters. now
// stands in for times that are still zero.
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
			missing = append(missing, fmt.Errorf("the server's details of the stage have no %q: is it a Drone server of version 1 or later that answered?", field.name))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	if len(d.Config.Data) == 0 {
		return errors.New("the server's details of the stage hold an empty configuration file: check that the repository's configuration path names a file")
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
