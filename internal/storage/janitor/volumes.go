package janitor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// Volume is a persistent volume: one that stands for a host path of pipelines, and is kept from
// build to build.
type Volume struct {
	// Name is the daemon's, Path what pipelines write.
	Name, Path string
	// Owner is whose builds have it, as spec.Volume has it.
	Owner string
	// Size in bytes; -1 if nobody can tell.
	Size int64
	// Used is when a build last had it; when it was made if nobody has noted that, and zero if not
	// even that is known.
	Used time.Time
	// Users are the names of the containers that use it.
	Users []string
}

// Volumes lists the persistent volumes of a daemon, the longest unused first. It has the daemon
// measure them, which takes it a while.
func Volumes(ctx context.Context, c client.APIClient, ledger *cache.Ledger) ([]Volume, error) {
	df, err := c.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.VolumeObject}})
	if err != nil {
		return nil, fmt.Errorf("ask the docker daemon for its volumes: %w", err)
	}
	users, err := volumeUsers(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []Volume
	for _, v := range df.Volumes {
		path := v.Labels[spec.LabelPersistent]
		if path == "" {
			continue
		}
		out = append(out, Volume{Name: v.Name, Path: path, Owner: v.Labels[spec.LabelOwner], Size: volumeSize(v), Used: volumeUse(v, ledger), Users: users[v.Name]})
	}
	slices.SortStableFunc(out, func(a, b Volume) int { return a.Used.Compare(b.Used) })
	return out, nil
}

func volumeSize(v *volume.Volume) int64 {
	if v.UsageData == nil {
		return -1
	}
	return v.UsageData.Size
}

func volumeUse(v *volume.Volume, ledger *cache.Ledger) time.Time {
	if used := ledger.VolumeUse(v.Name); !used.IsZero() {
		return used
	}
	created, _ := time.Parse(time.RFC3339, v.CreatedAt) // zero is unknown
	return created
}

// volumeUsers are the containers that use each volume.
func volumeUsers(ctx context.Context, c client.APIClient) (map[string][]string, error) {
	list, err := c.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list the containers that use volumes: %w", err)
	}
	users := map[string][]string{}
	for _, r := range list {
		for _, m := range r.Mounts {
			if m.Type == mount.TypeVolume {
				users[m.Name] = append(users[m.Name], name(r))
			}
		}
	}
	return users, nil
}

func name(r container.Summary) string {
	if len(r.Names) == 0 {
		return r.ID
	}
	return r.Names[0][1:]
}

// volumes removes persistent volumes that nobody has used for long.
func (c *cleaning) volumes(ctx context.Context) error {
	list, err := Volumes(ctx, c.o.Docker, c.o.Ledger)
	if err != nil {
		return err
	}
	for _, v := range list {
		if c.over() || ctx.Err() != nil {
			return ctx.Err()
		}
		if len(v.Users) > 0 || c.o.Keep(v.Path) || time.Since(v.Used) < c.o.VolumeIdle || time.Since(c.o.Ledger.VolumeUse(v.Name)) < c.o.VolumeIdle {
			continue
		}
		switch err := c.o.Docker.VolumeRemove(ctx, v.Name, false); {
		case errdefs.IsNotFound(err), errdefs.IsConflict(err): // it has gone, or somebody came
			continue
		case err != nil:
			return fmt.Errorf("remove volume %s (%s): %w", v.Name, v.Path, err)
		}
		if err := c.gone(ctx, KindVolume, v.Path, max(v.Size, 0), v.Used); err != nil {
			return err
		}
	}
	return nil
}

// buildCache has BuildKit forget what it hasn't used for longest.
func (c *cleaning) buildCache(ctx context.Context) error {
	df, err := c.o.Docker.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.BuildCacheObject}})
	if err != nil {
		return fmt.Errorf("ask the docker daemon for its build cache: %w", err)
	}
	var size int64
	var used time.Time
	for _, r := range df.BuildCache {
		if r.InUse {
			continue
		}
		size += r.Size
		if r.LastUsedAt != nil && (used.IsZero() || r.LastUsedAt.Before(used)) {
			used = *r.LastUsedAt
		}
	}
	if size == 0 {
		return nil
	}
	options := build.CachePruneOptions{All: true, KeepStorage: max(size-(c.used-c.goal), 0)}
	if !c.all {
		options.Filters = filters.NewArgs(filters.Arg("until", c.o.Recently.String()))
	}
	answer, err := c.o.Docker.BuildCachePrune(ctx, options)
	if err != nil {
		return fmt.Errorf("prune the build cache: %w", err)
	}
	if answer == nil || len(answer.CachesDeleted) == 0 {
		return nil
	}
	return c.gone(ctx, KindBuildCache, fmt.Sprintf("%d entries of the build cache", len(answer.CachesDeleted)), int64(answer.SpaceReclaimed), used)
}

// retain has the ledger forget what the daemon no longer has.
func (b *Budget) retain(ctx context.Context) error {
	ids, digests, volumes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	images, err := b.o.Docker.ImageList(ctx, imageListAll)
	if err != nil {
		return fmt.Errorf("list the images: %w", err)
	}
	for _, i := range images {
		ids[i.ID] = true
		for _, d := range i.RepoDigests {
			digests[d] = true
		}
	}
	list, err := b.o.Docker.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the volumes: %w", err)
	}
	for _, v := range list.Volumes {
		volumes[v.Name] = true
	}
	b.o.Ledger.Retain(ids, digests, volumes)
	return nil
}
