// Package compiler turns a pipeline and the build that it runs for into an engine.Spec: what a
// .drone.yml means, with every default filled in.
//
// The one rule to keep: it is pure. The same input gives the same spec, ids aside; nothing here
// reads the machine's environment, its files or its clock, except through what the Compiler was
// given. What may not be written in a pipeline is the linter's business; what can't be expressed as
// a spec is an error here as well, never a guess.
package compiler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/environ/provider"
	"github.com/drone/runner-go/manifest"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/secret"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// DefaultCloneImage clones the repository when the operator names no other image.
const DefaultCloneImage = "drone/git:latest"

// Compiler is what the operator configured. The zero value works: no providers, no limits, Drone's
// own clone image. Compile may be called concurrently as long as the fields stay as they are.
type Compiler struct {
	// Environ provides variables to every step of every build; those marked as masked are secrets.
	// Nil provides none.
	Environ provider.Provider
	// Secret is asked after the repository's own and the encrypted secrets. Nil knows none.
	Secret secret.Provider
	// Registry lists credentials that come after the pipeline's image_pull_secrets. Nil lists none.
	Registry registry.Provider

	// NetrcCloneOnly gives the credentials of git to the clone step alone.
	NetrcCloneOnly bool
	// CloneImage replaces DefaultCloneImage.
	CloneImage string
	// Proxy holds the proxy variables that the steps get, as runner-go's environ.Proxy reads them.
	Proxy map[string]string

	// Limits hold for every container; mem_limit, memswap_limit and shm_size of a step win where
	// they are set.
	Limits spec.Limits
	// Volumes are mounted into every step.
	Volumes []OperatorVolume
	// HostPaths are folders of the machine that trusted pipelines may bind, themselves and what is
	// below.
	HostPaths []string
	// SharedPaths are host paths whose volumes all trusted repositories share, themselves and what
	// is below. The volume of any other path is a repository's own.
	SharedPaths []string
	// Networks are joined by every step besides the network of its run.
	Networks []string
	// NetworkOptions are options of the run's bridge, such as com.docker.network.driver.mtu.
	NetworkOptions map[string]string
	// DockerPlugins are names of images, without tags and in their shortest form (plugins/docker),
	// that build images and elsewhere need privilege for it. A step that uses one as a plugin gets
	// a docker socket of the run's instead, for images alone. Empty: no image is treated so; see
	// DefaultDockerPlugins.
	DockerPlugins []string
	// WorkspaceSource is a folder of the machine that becomes the workspace. Empty: a volume that
	// goes with the run.
	WorkspaceSource string

	// RefusePrivileged has what asks for privilege refused in trusted repositories as well;
	// otherwise it runs unprivileged there.
	RefusePrivileged bool
	// RunnerName is the value of the label io.drone.runner.
	RunnerName string

	// ID makes the id of a run: lower-case letters, digits and dashes, usable as a DNS name. Nil:
	// "drone-" and 26 random characters.
	ID func() string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Args is one build of one pipeline. Netrc, Secrets and Manifest may be absent; everything else is
// required.
type Args struct {
	Pipeline *resource.Pipeline
	// Manifest holds the secret documents of the file.
	Manifest *manifest.Manifest
	Build    *drone.Build
	Stage    *drone.Stage
	Repo     *drone.Repo
	System   *drone.System
	// Netrc are the credentials that git clones with; nil for a public repository.
	Netrc *drone.Netrc
	// Secrets are the repository's own.
	Secrets []*drone.Secret
	// Docker says that the pipeline may have a docker socket: for the docker daemons that it would
	// start itself, the run's guard stands in then. Otherwise their steps are ordinary ones, in
	// which no daemon can start.
	Docker bool
	// Warnings of the linter become notes in the logs.
	Warnings resource.Findings
	// Skip reports which entries of the pipeline's steps never run. They stay in the graph, so what
	// depends on them still runs. Nil skips none.
	Skip func(name string) bool
}

// Compile makes the spec. Its errors say which step and key they are about. It asks the providers,
// so it may take as long as they do; a cancelled context ends it.
func (c *Compiler) Compile(ctx context.Context, a Args) (*spec.Spec, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	a = a.clean()

	id := c.newID()
	b := &builder{
		Compiler: c,
		args:     a,
		secrets:  newSecretFinder(c.Secret, a),
		volumes:  map[string]*spec.Volume{},
		now:      c.Time(),
		spec: &spec.Spec{
			ID:       id,
			Name:     a.Pipeline.Name,
			Platform: spec.Platform(a.Pipeline.Platform),
			Network:  spec.Network{Name: id, Options: c.NetworkOptions},

			CacheScope: cacheScope(a),
		},
	}
	if a.Pipeline.ForOthers() {
		return nil, fmt.Errorf("compile pipeline %q: platform.os: %q: this runner runs linux containers; write "+
			"linux, or leave it out", a.Pipeline.Name, a.Pipeline.Platform.OS)
	}
	if err := b.build(ctx); err != nil {
		return nil, fmt.Errorf("compile pipeline %q: %w", a.Pipeline.Name, err)
	}
	b.spec.DropPrivileged = a.Repo.Trusted && !c.RefusePrivileged && slices.ContainsFunc(b.spec.Steps, b.hasDocker)
	return b.spec, nil
}

// cacheScope is the repository, and for pull requests another one: what they leave in a cache must
// not get into what is released.
func cacheScope(a Args) string {
	if a.Build.Event == drone.EventPullRequest {
		return a.Repo.Slug + " " + drone.EventPullRequest
	}
	return a.Repo.Slug
}

// fromFork reports whether the build is of a pull request from a fork of the repository.
func fromFork(a Args) bool { return a.Build.Fork != "" && a.Build.Fork != a.Repo.Slug }

func (c *Compiler) newID() string {
	if c.ID != nil {
		return c.ID()
	}
	return "drone-" + strings.ToLower(rand.Text())
}

// Time is the compiler's clock.
func (c *Compiler) Time() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// check names everything that is missing.
func (a Args) check() error {
	var missing []error
	for _, in := range []struct {
		name   string
		absent bool
	}{
		{"pipeline", a.Pipeline == nil},
		{"build", a.Build == nil},
		{"stage", a.Stage == nil},
		{"repository", a.Repo == nil},
		{"system", a.System == nil},
	} {
		if in.absent {
			missing = append(missing, fmt.Errorf("compile: there is no %s to compile for", in.name))
		}
	}
	return errors.Join(missing...)
}

// clean returns args without the nil secrets that a server's JSON may hold, and with a manifest:
// runner-go's providers expect that.
func (a Args) clean() Args {
	a.Secrets = withoutNil(a.Secrets)
	if a.Manifest == nil {
		a.Manifest = &manifest.Manifest{}
	}
	return a
}

func withoutNil[T any](list []*T) []*T {
	if !slices.Contains(list, nil) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(v *T) bool { return v == nil })
}

// builder holds what the parts of one compilation share.
type builder struct {
	*Compiler
	args    Args
	secrets *secretFinder
	now     time.Time

	workspace workspace
	// base is the environment that every step starts from.
	base environment
	// registries are the credentials, in the order in which they are tried.
	registries []credentials
	daemons    daemons
	// volumes are those of the spec, by their names.
	volumes map[string]*spec.Volume
	// provided are the names of the pipeline's volumes that have a source. mounts says of each
	// volume that a step mounts which may run, whether anything but docker daemons does.
	provided, mounts map[string]bool
	// variables counts those of all steps.
	variables int
	// notes are for the first step that runs: what concerns no step, or one that doesn't run.
	notes []string
	spec  *spec.Spec
}

func (b *builder) build(ctx context.Context) error {
	p := b.args.Pipeline
	if err := b.checkNames(); err != nil {
		return err
	}
	b.spec.Labels = b.labels()
	b.workspace = workspaceOf(p.Workspace)
	b.findDaemons()
	b.findMounts()
	if err := b.addVolumes(); err != nil {
		return err
	}
	b.addDaemonVolumes()
	var err error
	if b.base, err = b.environment(ctx); err != nil {
		return err
	}
	if b.registries, err = b.credentials(ctx); err != nil {
		return err
	}
	b.mask()

	if !p.Clone.Disable {
		if err := b.addStep(ctx, b.cloneStep(), roleClone); err != nil {
			return err
		}
	}
	for _, s := range p.Services {
		if err := b.addStep(ctx, s, roleService); err != nil {
			return err
		}
	}
	for _, s := range p.Steps {
		if err := b.addStep(ctx, s, roleStep); err != nil {
			return err
		}
	}
	b.number()
	return connect(b.spec.Steps, p.Clone.Disable)
}

// checkNames refuses what would make the graph ambiguous. The linter says so at more length; a spec
// must not depend on its having been asked.
func (b *builder) checkNames() error {
	p := b.args.Pipeline
	seen := map[string]bool{}
	if !p.Clone.Disable {
		seen[cloneName] = true
	}
	for _, list := range []struct {
		key   string
		steps []*resource.Step
	}{{"services", p.Services}, {"steps", p.Steps}} {
		for i, s := range list.steps {
			switch {
			case s == nil:
				return fmt.Errorf("%s[%d] is empty: write a name and an image, or remove the entry", list.key, i)
			case s.Name == "":
				return fmt.Errorf("%s[%d] has no name: give it one that no other step has", list.key, i)
			case seen[s.Name]:
				return fmt.Errorf("%s[%d]: the name %q is taken: give every step and service a name of its own "+
					"(the clone step is called %q)", list.key, i, s.Name, cloneName)
			}
			seen[s.Name] = true
		}
	}
	return nil
}

// number counts the steps that are reported, from 1, tells each its number, and hands the notes
// that belong to no step to the first.
func (b *builder) number() {
	b.noteWarnings()
	n := 0
	for _, s := range b.spec.Steps {
		if s.RunPolicy == spec.RunNever {
			continue
		}
		if n++; n == 1 {
			s.Notes = append(b.notes, s.Notes...)
		}
		s.Number = n
	}
	for _, s := range b.spec.Steps {
		b.identify(s)
	}
}

// mask adds the values that no log may show to the spec, whether or not a step gets them.
func (b *builder) mask() {
	seen := map[string]bool{"": true}
	add := func(value string) {
		if !seen[value] {
			seen[value] = true
			b.spec.Masks = append(b.spec.Masks, spec.Sensitive(value))
		}
	}
	if n := b.args.Netrc; n != nil {
		add(n.Password)
		if loginIsToken(n) {
			add(n.Login)
		}
	}
	for _, r := range b.registries {
		add(r.password)
	}
	for _, key := range []string{"http_proxy", "https_proxy", "all_proxy"} {
		if u, err := url.Parse(b.Proxy[key]); err == nil && u.User != nil {
			password, _ := u.User.Password()
			add(password)
		}
	}
}
