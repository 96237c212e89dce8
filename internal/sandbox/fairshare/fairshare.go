// Package fairshare says how much of the machine a container of a build may take from the runner
// and its Docker daemon.
//
// The one rule to keep: it only ever lowers what a container is worth to the kernel. Raising the
// daemon's own worth needs a privilege that a system container doesn't have.
package fairshare

import (
	"os"
	"strconv"
	"strings"
)

// Pids is the default bound of the processes and threads of a container. Large builds have
// hundreds; a fork bomb is stopped before it takes the machine's.
const Pids = 8192

// behind is by how much sooner than the runner a container's process is killed when memory is
// short: as if it used half of the machine's memory more (proc_pid_oom_score_adj(5)).
const behind = 500

const worst = 1000

// OOMScore is the oom_score_adj of containers: behind that of this process, and so of the daemon,
// which has the same in a system container. A score below the daemon's own couldn't be set without
// privilege.
func OOMScore() int {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return behind
	}
	return score(string(data))
}

func score(own string) int {
	n, err := strconv.Atoi(strings.TrimSpace(own))
	if err != nil {
		n = 0
	}
	return min(max(n, 0)+behind, worst)
}
