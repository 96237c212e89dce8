package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// config is what runs in the container.
func (d *Docker) config(s *spec.Spec, step *spec.Step) *container.Config {
	// A daemon that starts again after a crash first stops the containers that it finds, and
	// answers no call until then. Its own grace is ten seconds for each.
	grace := int(max(d.opts.StopGrace.Round(time.Second)/time.Second, 1))
	return &container.Config{
		Image:        step.Image,
		Entrypoint:   step.Entrypoint,
		Cmd:          step.Command,
		Env:          environment(step),
		WorkingDir:   step.WorkingDir,
		User:         step.User,
		Labels:       d.labels(s, step.Labels, map[string]string{spec.LabelStep: step.Name}),
		AttachStdout: true,
		AttachStderr: true,
		StopTimeout:  &grace,
	}
}

// hostConfig is what the container gets of the machine: limits, mounts and names, and nothing else.
// Privilege, capabilities, devices, security options and the namespaces of the host are absent
// because Step can't express them; they must stay absent.
func (d *Docker) hostConfig(s *spec.Spec, step *spec.Step, logs container.LogConfig) (*container.HostConfig, error) {
	mounts, binds, err := d.mounts(s, step)
	if err != nil {
		return nil, err
	}
	h := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.Network.Name),
		LogConfig:   logs,
		Mounts:      mounts,
		Binds:       binds,
		DNS:         step.DNS,
		DNSSearch:   step.DNSSearch,
		ExtraHosts:  slices.Concat(step.ExtraHosts, d.publishedAt(s)),
		ShmSize:     step.Limits.ShmSize,
		OomScoreAdj: d.oomScore,
		Resources: container.Resources{
			Memory:     step.Limits.Memory,
			MemorySwap: step.Limits.MemorySwap,
			CPUPeriod:  step.Limits.CPUPeriod,
			CPUQuota:   step.Limits.CPUQuota,
			CPUShares:  step.Limits.CPUShares,
			CpusetCpus: step.Limits.CPUSet,
		},
	}
	if d.opts.Pids > 0 {
		h.PidsLimit = &d.opts.Pids
	}
	if step.NoNetwork {
		h.NetworkMode = network.NetworkNone
	}
	return h, nil
}

// environment is the step's, sorted, secrets before plain values of the same name. An empty value
// is a value.
func environment(step *spec.Step) []string {
	env := maps.Clone(step.Env)
	if env == nil {
		env = map[string]string{}
	}
	for _, s := range step.Secrets {
		if s != nil {
			env[s.Env] = string(s.Data)
		}
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// create makes the container of a step and returns its id. An older one of the same step is
// removed: the step is prepared again. The error is NotFound as well when the image isn't there.
func (d *Docker) create(ctx context.Context, r *run, s *spec.Spec, step *spec.Step, platform *ocispec.Platform) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	host, err := d.hostConfig(s, step, d.logConfig())
	if err != nil {
		return "", fmt.Errorf("create container %q: %w", step.Name, err)
	}
	try := func() (container.CreateResponse, error) {
		return made(ctx, r, d.opts.Deadlines.Create, func(ctx context.Context) (container.CreateResponse, error) {
			return d.client.ContainerCreate(ctx, d.config(s, step), host, endpoint(s, step), platform, step.ID)
		})
	}
	answer, err := try()
	if errdefs.IsConflict(err) {
		if err := d.removeFormer(ctx, s, step); err != nil {
			return "", err
		}
		answer, err = try()
	}
	if err != nil {
		return "", fmt.Errorf("create container %q (image %s): %w", step.Name, step.Image, explainCreate(err))
	}
	for _, w := range answer.Warnings {
		d.log.WithField("step", step.Name).WithField("id", answer.ID).Debug("docker warns: " + w)
	}
	return answer.ID, nil
}

// removeFormer removes the container that has the step's name, if it is this run's.
func (d *Docker) removeFormer(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	old, err := d.client.ContainerInspect(ctx, step.ID)
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("create container %q: look at the container that has the name %s already: %w", step.Name, step.ID, err)
	case old.Config == nil || old.Config.Labels[spec.LabelSpec] != s.ID:
		return fmt.Errorf("create container %q: the name %s belongs to a container of somebody else's; remove it (docker rm -f %[2]s) or run the build again", step.Name, step.ID)
	}
	return d.removeContainer(ctx, old.ID, step.Name)
}

// logConfig keeps the daemon's own copy of the output off: the output is read by attaching, which
// is all that a build's log needs. A second copy would hold secrets in clear text on the daemon's
// disk, without a bound on its size, and takes time.
func (*Docker) logConfig() container.LogConfig { return container.LogConfig{Type: "none"} }

// explainCreate adds what to do to errors of the daemon that have a known cause. The daemon gives
// most of them one status, so the text tells them apart; an unknown text is passed on as it is.
func explainCreate(err error) error {
	text := err.Error()
	for _, x := range []struct{ has, hint string }{
		{"bind source path does not exist", "make the folder on the machine of the docker daemon, or take the volume out"},
		{"Duplicate mount point", "two volumes of the step have the same path; give each its own"},
		{"Minimum memory limit", "raise mem_limit (or DRONE_MEMORY_LIMIT)"},
		{"Minimum memoryswap limit", "raise memswap_limit (or DRONE_MEMORY_SWAP_LIMIT) to at least the memory limit, which it includes"},
		{"Requested CPUs are not available", "correct DRONE_CPU_SET: this machine has fewer"},
		{"the working directory", "write an absolute working_dir"},
		{"invalid environment variable", "correct the name of the variable"},
	} {
		if strings.Contains(text, x.has) {
			return fmt.Errorf("%w; %s", err, x.hint)
		}
	}
	return err
}

// imageMissing reports whether a create failed because the daemon has no such image for the
// platform. NotFound alone doesn't say so: a plugin or a network can be missing as well.
func (d *Docker) imageMissing(ctx context.Context, err error, ref string, platform *ocispec.Platform) (bool, error) {
	if !errdefs.IsNotFound(err) {
		return false, nil
	}
	has, err := d.hasImage(ctx, ref, platform)
	return !has && err == nil, err
}

// hasImage reports whether the daemon has the image, for the platform if there is one.
func (d *Docker) hasImage(ctx context.Context, ref string, platform *ocispec.Platform) (bool, error) {
	image, err := d.lookAtImage(ctx, ref)
	if image == nil || err != nil {
		return false, err
	}
	return platform == nil || image.Os == platform.OS && image.Architecture == platform.Architecture, nil
}
