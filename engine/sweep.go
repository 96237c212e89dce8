package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// Remains are the objects of one stage that the daemon has.
type Remains struct {
	// Spec is the stage's id.
	Spec string
	// Owner is the name of the runner whose run it is.
	Owner string
	// Created is when the oldest of them was made; zero if unknown.
	Created time.Time
	// Containers, Networks and Volumes are their names.
	Containers, Networks, Volumes []string
}

// String counts them.
func (r Remains) String() string {
	var parts []string
	for _, kind := range []struct {
		n    int
		name string
	}{{len(r.Containers), "container"}, {len(r.Networks), "network"}, {len(r.Volumes), "volume"}} {
		switch {
		case kind.n == 1:
			parts = append(parts, "1 "+kind.name)
		case kind.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", kind.n, kind.name))
		}
	}
	return strings.Join(parts, ", ")
}

// Remains lists what the daemon has of the stages of the runner of that name, stage by stage,
// whether they have ended or not. Volumes that outlive their stages are none of these.
func (d *Docker) Remains(ctx context.Context, runner string) ([]Remains, error) {
	if runner == "" {
		return nil, errors.New("list what stages have left: the runner has no name")
	}
	return d.remains(ctx, spec.LabelRunner+"="+runner)
}

// AllRemains lists what the daemon has of the stages of all runners, whatever their names.
func (d *Docker) AllRemains(ctx context.Context) ([]Remains, error) {
	return d.remains(ctx, spec.LabelRunner)
}

// remains lists what carries the label, and that of a stage.
func (d *Docker) remains(ctx context.Context, label string) ([]Remains, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	ours := filters.NewArgs(filters.Arg("label", label), filters.Arg("label", spec.LabelSpec))
	found := map[string]*Remains{}
	of := func(labels map[string]string, created time.Time) *Remains {
		id := labels[spec.LabelSpec]
		r := found[id]
		if r == nil {
			r = &Remains{Spec: id, Owner: labels[spec.LabelRunner]}
			found[id] = r
		}
		if !created.IsZero() && (r.Created.IsZero() || created.Before(r.Created)) {
			r.Created = created
		}
		return r
	}
	containers, err := d.client.ContainerList(ctx, container.ListOptions{All: true, Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("list the containers that stages have left: %w", err)
	}
	for _, c := range containers {
		r := of(c.Labels, time.Unix(c.Created, 0))
		r.Containers = append(r.Containers, containerName(c))
	}
	networks, err := d.client.NetworkList(ctx, network.ListOptions{Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("list the networks that stages have left: %w", err)
	}
	for _, n := range networks {
		r := of(n.Labels, n.Created)
		r.Networks = append(r.Networks, n.Name)
	}
	volumes, err := d.client.VolumeList(ctx, volume.ListOptions{Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("list the volumes that stages have left: %w", err)
	}
	for _, v := range volumes.Volumes {
		created, _ := time.Parse(time.RFC3339, v.CreatedAt) // An unknown age is no reason to leave it.
		r := of(v.Labels, created)
		r.Volumes = append(r.Volumes, v.Name)
	}
	delete(found, "") // A label without a value belongs to no stage.
	out := make([]Remains, 0, len(found))
	for _, r := range found {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Remains) int { return strings.Compare(a.Spec, b.Spec) })
	return out, nil
}

// Sweep is Destroy for a stage that this process knows by its id alone: one of a former life. A
// stage that runs here ends.
func (d *Docker) Sweep(ctx context.Context, id string) error {
	if id == "" || id == "." || id == ".." || strings.ContainsRune(id, filepath.Separator) {
		return fmt.Errorf("sweep the stage %q: that is no stage's id", id)
	}
	return d.Destroy(ctx, &spec.Spec{ID: id})
}

// closeFormerGuard removes what the guard of a stage of a former life has left: sockets, mounts and
// its fence, and in the daemon what carries no label.
func (d *Docker) closeFormerGuard(ctx context.Context, id string) error {
	if d.opts.Guard == nil {
		return nil
	}
	err := errors.Join(removeMounted(filepath.Join(d.opts.Guard.Dir, id)), d.inNetns(func() error { return fence.Lower(id) }))
	if daemon, away := d.daemonSocket(); away == nil { // at no other place could it have had a guard
		err = errors.Join(err, d.releaseGuarded(ctx, daemon, id))
	}
	if err != nil {
		return fmt.Errorf("remove what the docker socket of the stage has left: %w", err)
	}
	return nil
}

// removeMounted removes a folder and what is in it, but nothing of what is mounted there: as long
// as a mount can't be undone, all stays.
func removeMounted(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(points) { // the last one may be mounted over the others
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if points, err = mountsBelow(dir); err != nil || len(points) > 0 {
		return errors.Join(err, fmt.Errorf("remove %s: %d mounts are still there", dir, len(points)))
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the docker socket of a stage: %w", err)
	}
	return nil
}

// mountsBelow are the mount points at and below a folder, in the order in which they were mounted.
func mountsBelow(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("see what is mounted: %w", err)
	}
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("see what is mounted: %w", err)
	}
	var out []string
	for _, m := range found {
		out = append(out, m.Mountpoint)
	}
	return out, nil
}
