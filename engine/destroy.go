package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// removals is how many objects of a kind are removed at a time. The containers of a stage end
// together; the daemon, whose work it is, gains nothing from more at once.
const removals = 32

// Destroy removes every container, network and volume that carries the label of the stage,
// whichever client created it, in any state. Persistent volumes don't carry it. Nothing to remove
// is no error; the errors of everything that stays come joined, each with the name of the object. A
// daemon that is away, doesn't answer, or is at something that the stage has asked for, is waited
// for as long as ctx lasts.
func (d *Docker) Destroy(ctx context.Context, s *spec.Spec) error {
	if s == nil || s.ID == "" {
		return errors.New("destroy a stage: there is no spec, or it has no id")
	}
	r := d.run(s)
	d.mu.Lock()
	delete(d.fetched, s.ID)
	d.mu.Unlock()
	if r == nil {
		return d.removePatiently(ctx, nil, s)
	}
	defer r.giveUp()
	busy := r.end()
	r.release()
	r.dropImages()
	if busy {
		// What is being created must exist before it can be found. Nor may a volume go before the
		// container that it is for is there: the daemon would create it again, without a label.
		err := errors.Join(d.shutGuard(r), d.removeContainers(ctx, s))
		if late := waitFor(ctx, &r.busy); late != nil {
			return errors.Join(err, fmt.Errorf("destroy the stage %s: the docker daemon is still making what the stage has asked for: %w", s.ID, late))
		}
		r.release()
	}
	if err := d.removePatiently(ctx, r, s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs[s.ID] == r {
		delete(d.runs, s.ID)
	}
	return nil
}

// removePatiently removes everything, and waits for a daemon that is away.
func (d *Docker) removePatiently(ctx context.Context, r *run, s *spec.Spec) error {
	for {
		err := d.removeAll(ctx, r, s)
		if err == nil || !away(err) || !d.answers(ctx, untilOver(ctx)) || pause.For(ctx, pauseForDaemon) != nil {
			return err
		}
	}
}

// pauseForDaemon is left to a daemon that has just come back.
const pauseForDaemon = 200 * time.Millisecond

// untilOver is how long ctx lasts.
func untilOver(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return math.MaxInt64
}

// removeAll is one attempt at removing everything.
func (d *Docker) removeAll(ctx context.Context, r *run, s *spec.Spec) error {
	// Nothing more is made through the guard from here on; what it has mounted goes after the
	// containers that use it.
	err := d.shutGuard(r)
	err = errors.Join(err, d.removeContainers(ctx, s), d.closeBinds(r, s), d.closeGuard(ctx, r, s))
	var netErr, volErr error
	var both sync.WaitGroup
	both.Go(func() { netErr = d.removeNetworks(ctx, s) })
	both.Go(func() { volErr = d.removeVolumes(ctx, s) })
	both.Wait()
	return errors.Join(err, netErr, volErr)
}

// waitFor waits for wg, no longer than ctx.
func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait() // ends with calls that each have a deadline, or end with the stage
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ofSpec(s *spec.Spec) filters.Args {
	return filters.NewArgs(filters.Arg("label", spec.LabelSpec+"="+s.ID))
}

// each removes the named objects, several at a time, and joins the errors.
func each(names []string, remove func(name string) error) error {
	errs := make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(removals)
	for i, name := range names {
		group.Go(func() error {
			errs[i] = remove(name)
			return nil
		})
	}
	_ = group.Wait()
	return errors.Join(errs...)
}

// removeContainers removes what the label finds. When the daemon can't list although it is there,
// the names of the steps have to do.
func (d *Docker) removeContainers(ctx context.Context, sp *spec.Spec) error {
	found, err := d.listContainers(ctx, sp)
	names, shown := make([]string, 0, len(found)), map[string]string{}
	for _, c := range found {
		names = append(names, c.ID)
		shown[c.ID] = containerName(c)
	}
	if err != nil && !away(err) {
		for _, s := range sp.Steps {
			if s != nil && s.ID != "" {
				names = append(names, s.ID)
				shown[s.ID] = s.Name
			}
		}
	}
	return errors.Join(err, each(names, func(id string) error { return d.removeContainer(ctx, id, shown[id]) }))
}

func (d *Docker) listContainers(ctx context.Context, s *spec.Spec) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	found, err := d.client.ContainerList(ctx, container.ListOptions{All: true, Filters: ofSpec(s)})
	if err != nil {
		return nil, fmt.Errorf("list the containers of the stage %s: %w", s.ID, err)
	}
	return found, nil
}

func containerName(c container.Summary) string {
	if step := c.Labels[spec.LabelStep]; step != "" {
		return step
	}
	if len(c.Names) > 0 {
		return strings.TrimPrefix(c.Names[0], "/")
	}
	return c.ID
}

// removeContainer kills and removes a container with the anonymous volumes of its image.
func (d *Docker) removeContainer(ctx context.Context, id, name string) error {
	err := d.remove(ctx, func(ctx context.Context) error {
		return d.client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	if err != nil {
		return fmt.Errorf("remove container %q (%s): %w", name, id, err)
	}
	return nil
}

func (d *Docker) removeNetworks(ctx context.Context, s *spec.Spec) error {
	listCtx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	found, err := d.client.NetworkList(listCtx, network.ListOptions{Filters: ofSpec(s)})
	if err != nil {
		return fmt.Errorf("list the networks of the stage %s: %w", s.ID, err)
	}
	names, ids := map[string]string{}, make([]string, len(found))
	for i, n := range found {
		names[n.ID], ids[i] = n.Name, n.ID
	}
	return each(ids, func(id string) error {
		err := d.remove(ctx, func(ctx context.Context) error {
			err := d.client.NetworkRemove(ctx, id)
			if err != nil && !errdefs.IsNotFound(err) {
				d.disconnectAll(ctx, id)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("remove network %q: %w", names[id], err)
		}
		return nil
	})
}

// disconnectAll takes containers off a network that can't be removed because of them: somebody
// else's, who joined the stage's network, and endpoints that a crashed daemon has left. What fails
// here makes the next try to remove fail, which reports it.
func (d *Docker) disconnectAll(ctx context.Context, id string) {
	n, err := d.client.NetworkInspect(ctx, id, network.InspectOptions{})
	if err != nil {
		d.log.WithError(err).WithField("network", id).Debug("cannot see who is on the network of a stage that has ended")
		return
	}
	for key, e := range n.Containers {
		who := key
		if strings.HasPrefix(key, "ep-") { // an endpoint whose container is gone goes by its name
			who = e.Name
		}
		if err := d.client.NetworkDisconnect(ctx, id, who, true); err != nil {
			d.log.WithError(err).WithField("network", id).WithField("container", who).Debug("cannot take a container off the network of a stage that has ended")
		}
	}
}

func (d *Docker) removeVolumes(ctx context.Context, s *spec.Spec) error {
	names, err := d.listVolumes(ctx, s)
	if err != nil {
		return fmt.Errorf("list the volumes of the stage %s: %w", s.ID, err)
	}
	return each(names, func(name string) error {
		if err := d.remove(ctx, func(ctx context.Context) error { return d.client.VolumeRemove(ctx, name, true) }); err != nil {
			return fmt.Errorf("remove volume %q: %w", name, err)
		}
		return nil
	})
}

// listVolumes are the volumes of the stage by their label, and those without any that are named
// after it: the daemon creates a volume again that was removed while it created a container for it,
// and there is nothing on it then.
func (d *Docker) listVolumes(ctx context.Context, s *spec.Spec) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	labelled, err := d.client.VolumeList(ctx, volume.ListOptions{Filters: ofSpec(s)})
	if err != nil {
		return nil, err
	}
	for _, v := range labelled.Volumes {
		names = append(names, v.Name)
	}
	named, err := d.client.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("name", s.ID))})
	if err != nil {
		return nil, err
	}
	for _, v := range named.Volumes {
		// A step's own and the compiler's differ in what follows (package guard).
		if rest, ours := strings.CutPrefix(v.Name, s.ID); len(v.Labels) == 0 && ours && (strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, ".")) {
			names = append(names, v.Name)
		}
	}
	return names, nil
}

// remove calls f until the object is gone, within the deadline of a removal. The daemon refuses
// while another removal of the object, or of what uses it, is under way, and says so with several
// statuses; so every refusal is tried again for some seconds.
func (d *Docker) remove(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Remove)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := f(ctx)
		if errdefs.IsNotFound(err) {
			err = nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(removeFor))
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("%w (%w)", last, ctx.Err())
	}
	return err
}

// removeFor bounds the retries of a removal. A volume in use by a container of somebody else's
// stays in use.
const removeFor = 15 * time.Second
