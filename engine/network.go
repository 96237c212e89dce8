package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// createNetwork makes the bridge of the stage. When the daemon has no subnet left it waits for a
// while: they come back as builds end. Any other failure is one at once.
func (d *Docker) createNetwork(ctx context.Context, r *run, s *spec.Spec) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 2*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := d.tryNetwork(ctx, r, s)
		if err != nil && !addressPoolsExhausted(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(d.opts.Deadlines.Subnet))
	switch {
	case err == nil:
		return nil
	case errdefs.IsConflict(err):
		return fmt.Errorf("create network %q: the daemon has one of that name already; remove it (docker network rm %[1]s) unless another stage uses it: %w", s.Network.Name, err)
	case addressPoolsExhausted(err):
		return fmt.Errorf("create network %q: the docker daemon has no free subnet left. Remove the networks that nothing uses (docker network prune), or give the daemon more "+
			`and smaller ones: "default-address-pools" in its daemon.json, with "size": 24 or above: %w`, s.Network.Name, err)
	}
	return fmt.Errorf("create network %q: %w", s.Network.Name, err)
}

func (d *Docker) tryNetwork(ctx context.Context, r *run, s *spec.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := made(ctx, r, d.opts.Deadlines.Network, func(ctx context.Context) (network.CreateResponse, error) {
		return d.client.NetworkCreate(ctx, s.Network.Name, network.CreateOptions{
			Driver:  "bridge",
			Options: networkOptions(s),
			Labels:  d.labels(s),
		})
	})
	return err
}

// addressPoolsExhausted recognises the daemon's two wordings, the second since 26.0. It gives
// neither a code of its own.
func addressPoolsExhausted(err error) bool {
	return strings.Contains(err.Error(), "non-overlapping IPv4 address pool") || strings.Contains(err.Error(), "address pools have been fully subnetted")
}

// endpoint puts a container onto the bridge of the stage under its step's name.
func endpoint(s *spec.Spec, step *spec.Step) *network.NetworkingConfig {
	if step.NoNetwork {
		return nil
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		s.Network.Name: {Aliases: []string{step.Name}},
	}}
}

// connect puts a created container onto the step's further networks. They aren't the stage's own,
// so the step's name is no alias there: two builds with a service "db" would answer each other's
// calls.
func (d *Docker) connect(ctx context.Context, s *spec.Spec, step *spec.Step, id string) error {
	if step.NoNetwork {
		return nil
	}
	for _, name := range step.Networks {
		if err := d.connectOne(ctx, s, name, id); err != nil {
			if errdefs.IsNotFound(err) {
				return fmt.Errorf("connect step %q to network %q: the docker daemon has no such network; create it (docker network create %[2]s), or take it out of DRONE_RUNNER_NETWORKS: %w", step.Name, name, err)
			}
			return fmt.Errorf("connect step %q to network %q: %w", step.Name, name, err)
		}
	}
	return nil
}

func (d *Docker) connectOne(ctx context.Context, s *spec.Spec, name, id string) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Create)
	defer cancel()
	network, err := d.findNetwork(ctx, s, name)
	if err != nil {
		return late(err, d.opts.Deadlines.Create)
	}
	return late(d.client.NetworkConnect(ctx, network, id, nil), d.opts.Deadlines.Create)
}

// findNetwork returns the id of the network with exactly that name or id. The daemon takes the
// beginning of an id as well, which need not be long to hit the network of another stage; and such
// a network is refused however it is named.
func (d *Docker) findNetwork(ctx context.Context, s *spec.Spec, name string) (string, error) {
	n, err := d.client.NetworkInspect(ctx, name, network.InspectOptions{})
	switch {
	case err != nil:
		return "", err
	case n.Name != name && n.ID != name:
		return "", errdefs.ErrNotFound.WithMessage("network " + name + " not found")
	case n.Labels[spec.LabelSpec] != "" && n.Labels[spec.LabelSpec] != s.ID:
		return "", errors.New("it is the network of another stage")
	}
	return n.ID, nil
}
