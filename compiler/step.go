package compiler

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/environ"
	"github.com/drone/runner-go/labels"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// role is the list that a step comes from.
type role int

const (
	roleClone role = iota
	roleService
	roleStep
)

// addStep compiles one step and appends it, unless the context is over. Its errors name the step.
func (b *builder) addStep(ctx context.Context, src *resource.Step, role role) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	step, err := b.step(ctx, src, role)
	if err != nil {
		return fmt.Errorf("step %q: %w", src.Name, err)
	}
	b.spec.Steps = append(b.spec.Steps, step)
	return nil
}

func (b *builder) step(ctx context.Context, src *resource.Step, role role) (*spec.Step, error) {
	dst := &spec.Step{
		ID:         fmt.Sprintf("%s-%d", b.spec.ID, len(b.spec.Steps)+1),
		Name:       src.Name,
		User:       src.User,
		DNS:        src.DNS,
		DNSSearch:  src.DNSSearch,
		ExtraHosts: src.ExtraHosts,
		Limits:     b.limits(src),
		Service:    role == roleService,
		Detach:     role == roleService || src.Detach,
		DependsOn:  slices.Clone(src.DependsOn),
		ErrPolicy:  errPolicy(src.Failure),
		RunPolicy:  runPolicy(src, role, b.args),
	}
	if dst.RunPolicy == spec.RunNever {
		return b.absent(dst, src), nil
	}

	var err error
	if dst.Image, err = qualify(src.Image); err != nil {
		if dst.RunPolicy != spec.RunOnFailure {
			return nil, err
		}
		// The build is lost anyway when this step runs, and fails then as any step whose image
		// isn't there.
		dst.Image = src.Image
	}
	if dst.Pull, err = pullPolicy(src.Pull); err != nil {
		return nil, err
	}
	if len(src.Devices) > 0 {
		return nil, fmt.Errorf("devices: no step gets a device of the host: remove the key")
	}
	_, daemon := b.daemons.steps[src.Name]
	if daemon {
		b.standIn(dst, src)
	}
	if err := b.setNetwork(dst, src.Network); err != nil {
		return nil, err
	}
	script := setProcess(dst, src)
	// What runs in the background without commands, such as a database, starts in the folder that
	// its image was made for, as with Drone.
	if role != roleService && !src.Detach || len(src.Commands) > 0 {
		dst.WorkingDir = b.workspace.full
	}
	if src.WorkingDir != "" {
		dst.WorkingDir = below(b.workspace.full, src.WorkingDir)
	}
	if err := b.setEnvironment(ctx, dst, src, role, script); err != nil {
		return nil, err
	}
	if err := b.setMounts(dst, src); err != nil {
		return nil, err
	}
	if daemon {
		dst.Mounts = nil
		return dst, nil
	}
	if src.Privileged {
		dst.Notes = append([]string{b.unprivileged(dst)}, dst.Notes...)
	}
	if b.hasDocker(dst) {
		setDockerVariables(dst)
	}
	return dst, nil
}

// absent makes the step one that never runs: a place in the graph, for what depends on it. Nothing
// else of it is read, so nothing of it can be wrong: an image such as "app:${DRONE_TAG}" has no
// name in a build without a tag. It gets no variable and no secret, and no provider is asked for
// it.
func (b *builder) absent(dst *spec.Step, src *resource.Step) *spec.Step {
	return &spec.Step{
		ID:        dst.ID,
		Name:      dst.Name,
		Image:     cmp.Or(expand(src.Image), src.Image),
		Env:       map[string]string{},
		Service:   dst.Service,
		Detach:    dst.Detach,
		DependsOn: dst.DependsOn,
		ErrPolicy: dst.ErrPolicy,
		RunPolicy: spec.RunNever,
	}
}

// unprivileged is the line of a step that asks for privilege. Mostly it was for Docker, which it
// may have.
func (b *builder) unprivileged(dst *spec.Step) string {
	const note = "privileged is set for this step and not granted: it runs unprivileged"
	if b.hasDocker(dst) {
		return note + ", and has Docker all the same"
	}
	return note + ". If it is Docker that it needs, a volume with the host path /var/run/docker.sock gives it that"
}

// setEnvironment adds the step's variables, secrets and credentials to what every step starts from.
func (b *builder) setEnvironment(ctx context.Context, dst *spec.Step, src *resource.Step, role role,
	script string) error {
	if err := b.spend(len(b.base) + len(src.Environment) + len(src.Settings)); err != nil {
		return err
	}
	env := maps.Clone(b.base)
	if role == roleClone || !b.NetrcCloneOnly {
		b.addNetrc(env)
	}
	if err := b.addVariables(ctx, env, src.Environment, &dst.Notes); err != nil {
		return err
	}
	if err := b.addSettings(ctx, env, src.Settings, &dst.Notes); err != nil {
		return err
	}
	env.dropEmptySettings()
	if b.isDockerPlugin(dst) {
		b.useSocket(dst, env)
	}
	if script != "" {
		env.set(scriptVariable, script)
	}
	if err := env.check(); err != nil {
		return err
	}
	dst.Env, dst.Secrets = env.split()

	auth, note := b.auth(dst.Image)
	dst.Auth = auth
	if note != "" {
		dst.Notes = append(dst.Notes, note)
	}
	return nil
}

// identify adds what depends on the step's number.
func (b *builder) identify(s *spec.Step) {
	s.Labels = labels.FromStep(&drone.Step{Name: s.Name, Number: s.Number})
	for name, value := range environ.StepArgs(s.Name, int64(s.Number)) {
		s.Env[name] = value
	}
	// The step's own variables of these names don't win, not even as secrets: what Drone says about
	// a step is true.
	s.Secrets = slices.DeleteFunc(s.Secrets, func(secret *spec.Secret) bool {
		_, taken := s.Env[secret.Env]
		return taken
	})
}

// limits are the operator's, with those of the step where it sets any.
func (b *builder) limits(src *resource.Step) spec.Limits {
	l := b.Limits
	l.Memory = cmp.Or(max(0, int64(src.MemLimit)), l.Memory)
	if src.MemSwap >= -1 {
		l.MemorySwap = cmp.Or(int64(src.MemSwap), l.MemorySwap)
	}
	l.ShmSize = cmp.Or(max(0, int64(src.ShmSize)), l.ShmSize)
	if l.MemorySwap > 0 && l.MemorySwap < l.Memory {
		// Docker refuses a total below the memory: one of the two is the operator's, the other the
		// step's.
		l.MemorySwap = l.Memory
	}
	return l
}

// setNetwork reads network_mode. What isn't the network of the run, or none at all, is a network of
// the daemon that the step joins besides.
func (b *builder) setNetwork(dst *spec.Step, mode string) error {
	kind, _, _ := strings.Cut(strings.ToLower(mode), ":")
	switch kind {
	case "":
	case "none":
		dst.NoNetwork = true
		return nil
	case "bridge", "default":
		dst.Notes = append(dst.Notes, fmt.Sprintf("network_mode %s: the step is on the network of its pipeline, as "+
			"every step is", mode))
	case "host", "container":
		return fmt.Errorf("network_mode: %q: no step joins another network namespace: leave the key out; steps "+
			"and services reach each other by name", mode)
	default:
		dst.Networks = append(dst.Networks, mode)
	}
	for _, name := range b.Networks {
		if !slices.Contains(dst.Networks, name) {
			dst.Networks = append(dst.Networks, name)
		}
	}
	return nil
}
