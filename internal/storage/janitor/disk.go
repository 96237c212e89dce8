package janitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Usage is how full a disk is, in bytes.
type Usage struct {
	Used int64
	// Size is 0 where it isn't known.
	Size int64
}

// Disk is the one that a Docker daemon keeps its images and volumes on.
type Disk struct {
	// Path is the daemon's data folder, if it can be seen from here. The whole disk below it counts
	// then, whatever fills it.
	Path string
	// Docker is asked what it uses where there is no Path, which takes it a while.
	Docker client.APIClient
}

// FindDisk is the disk of the daemon behind c: the one below its data folder if the daemon is
// beside the runner, and otherwise what the daemon says that it uses.
func FindDisk(ctx context.Context, c client.APIClient) (Disk, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return Disk{}, fmt.Errorf("ask the docker daemon for its data folder: %w", err)
	}
	d := Disk{Docker: c}
	if strings.HasPrefix(c.DaemonHost(), "unix://") {
		if _, err := os.Stat(info.DockerRootDir); err == nil {
			d.Path = info.DockerRootDir
		}
	}
	return d, nil
}

// Usage measures the disk.
func (d Disk) Usage(ctx context.Context) (Usage, error) {
	if d.Path != "" {
		return Statfs(d.Path)
	}
	df, err := d.Docker.DiskUsage(ctx, types.DiskUsageOptions{})
	if err != nil {
		return Usage{}, fmt.Errorf("ask the docker daemon for the room that it uses: %w", err)
	}
	used := cacheSize(df)
	for _, c := range df.Containers {
		used += c.SizeRw
	}
	for _, v := range df.Volumes {
		if !persistent(v) && v.UsageData != nil {
			used += max(v.UsageData.Size, 0)
		}
	}
	return Usage{Used: used}, nil
}

// Cache returns how many bytes the cache takes: images, build cache and persistent volumes. The
// daemon measures them, which takes it a while.
func (d Disk) Cache(ctx context.Context) (int64, error) {
	df, err := d.Docker.DiskUsage(ctx, types.DiskUsageOptions{
		Types: []types.DiskUsageObject{types.ImageObject, types.BuildCacheObject, types.VolumeObject},
	})
	if err != nil {
		return 0, fmt.Errorf("ask the docker daemon for the size of its cache: %w", err)
	}
	return cacheSize(df), nil
}

func cacheSize(df types.DiskUsage) int64 {
	size := df.LayersSize
	for _, v := range df.Volumes {
		if persistent(v) && v.UsageData != nil {
			size += max(v.UsageData.Size, 0)
		}
	}
	for _, r := range df.BuildCache {
		if !r.Shared {
			size += r.Size
		}
	}
	return size
}

func persistent(v *volume.Volume) bool { return v.Labels[spec.LabelPersistent] != "" }

// Statfs measures the disk below a path. Blocks that are kept for root are neither used nor part of
// the size, as for df(1): no removal would free them.
func Statfs(path string) (Usage, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(path, &s)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Usage{}, fmt.Errorf("measure the disk below %s: %w", path, err)
		}
		break
	}
	used := int64(s.Blocks-s.Bfree) * s.Bsize
	return Usage{Used: used, Size: used + int64(s.Bavail)*s.Bsize}, nil
}

// Mark is a limit of how full a disk may be: a part of it in percent, or a number of bytes. The
// zero one is none.
type Mark struct {
	Percent int
	Bytes   int64
}

// On is the mark in bytes on a disk of that size; 0 if it's none there.
func (m Mark) On(size int64) int64 {
	if m.Percent > 0 {
		return size / 100 * int64(m.Percent)
	}
	return m.Bytes
}
