package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// The shares of the disk, in percent, below which it is worth a word, and below which builds are
// about to fail.
const (
	diskWarn = 15
	diskFail = 3
)

// storage: drivers that copy whole files or layers make every build slow.
func storage(info system.Info) syscont.Check {
	const name = "storage driver"
	if slices.Contains([]string{"overlay2", "overlayfs", "btrfs", "zfs"}, info.Driver) {
		return pass(name, info.Driver)
	}
	return warn(name, info.Driver+" is slow", "use a kernel of 5.11 or newer, which has overlay2 in user namespaces, and a data folder on ext4 or xfs")
}

// disk looks at the disk that the daemon's data folder is on. A folder that isn't in here belongs
// to a daemon elsewhere.
func disk(root string) syscont.Check {
	const name = "disk"
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return warn(name, fmt.Sprintf("%s can't be looked at: %v", root, err), "run doctor where the daemon runs")
	}
	free := st.Bavail * uint64(st.Bsize)
	all := st.Blocks * uint64(st.Bsize)
	if all == 0 {
		return warn(name, root+" says nothing of its size", "run doctor where the daemon runs")
	}
	percent := free * 100 / all
	seen := fmt.Sprintf("%s free of %s at %s (%d%%)", units.BytesSize(float64(free)), units.BytesSize(float64(all)), root, percent)
	const fix = "give the cache volume more room, or remove images that no build needs (docker image prune -a, inside the runner's container)"
	switch {
	case percent < diskFail:
		return fail(name, seen, fix)
	case percent < diskWarn:
		return warn(name, seen, fix)
	}
	return pass(name, seen)
}

// limits: without these cgroups the limits that an operator sets are ignored by the daemon,
// silently.
func limits(info system.Info) []syscont.Check {
	var missing []string
	for _, l := range []struct {
		name string
		have bool
	}{
		{"memory", info.MemoryLimit},
		{"cpu quota", info.CPUCfsQuota},
		{"cpu shares", info.CPUShares},
		{"cpuset", info.CPUSet},
		{"pids", info.PidsLimit},
	} {
		if !l.have {
			missing = append(missing, l.name)
		}
	}
	const name = "cgroups"
	seen := fmt.Sprintf("version %s, driver %s, %d CPUs, %s memory", info.CgroupVersion, info.CgroupDriver, info.NCPU, units.BytesSize(float64(info.MemTotal)))
	if len(missing) > 0 {
		return []syscont.Check{warn(name, seen+"; the daemon can't limit: "+strings.Join(missing, ", "),
			"turn these cgroup controllers on for the runner's container, or do without DRONE_MEMORY_LIMIT and DRONE_CPU_*")}
	}
	return []syscont.Check{pass(name, seen)}
}
