package resource

import (
	"path"
	"strings"
)

// PathKind tells what a path of a host volume stands for on a machine that gives no pipeline any
// file of its own.
type PathKind string

// The kinds; the documentation's table "Volumes" says what becomes of each.
const (
	// PathSocket is a docker socket: the stage's guard stands in for it.
	PathSocket PathKind = "socket"
	// PathSocketDir is the folder where a docker socket is looked for: one with the guarded socket,
	// and nothing else, stands in for it.
	PathSocketDir PathKind = "socket-dir"
	// PathForbidden is a path for which there's no honest stand-in: the kernel's and the daemon's
	// files, the sockets of other daemons, a parent of one of these, or no absolute path at all.
	PathForbidden PathKind = "forbidden"
	// PathHarmless is any other path: a persistent volume, a cache, stands in for it.
	PathHarmless PathKind = "harmless"
)

// Where a path is forbidden with all that is below it. The folders below /run hold sockets and
// process ids of live daemons, for which an empty volume is no stand-in; so nothing there but a
// docker.sock is to be had.
var forbiddenTrees = []string{
	"/proc", "/sys", "/dev", "/run", "/var/run",
	"/var/lib/docker", "/var/lib/containerd", "/var/lib/drone-runner", "/var/lib/drone-runner-sysbox",
	"/var/lib/kubelet", "/var/lib/containers",
	"/etc/docker", "/etc/containerd", "/etc/drone-runner", "/etc/drone-runner-sysbox",
}

// Sockets that give away a machine, wherever they are.
var foreignSockets = map[string]bool{
	"containerd.sock": true, "podman.sock": true, "crio.sock": true, "cri-dockerd.sock": true,
	"dockershim.sock": true, "buildkitd.sock": true,
}

// CleanHostPath is the path in its shortest spelling: no doubled, trailing or dotted parts. It
// looks at no file system, so symbolic links stay. A path that isn't absolute, or that no file
// system takes, is "".
func CleanHostPath(p string) string {
	if !path.IsAbs(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return ""
	}
	return path.Clean(p)
}

// ClassifyHostPath tells what kind of path a host volume names, however it is spelled. Every path
// that ends in /docker.sock counts as a docker socket (the rootless /run/user/1000/docker.sock
// too): there is one daemon here, so that is the one meant.
func ClassifyHostPath(p string) PathKind {
	p = CleanHostPath(p)
	switch {
	case p == "":
		return PathForbidden
	case path.Base(p) == "docker.sock":
		return PathSocket
	case p == "/run" || p == "/var/run":
		return PathSocketDir
	case foreignSockets[path.Base(p)]:
		return PathForbidden
	}
	for _, tree := range forbiddenTrees {
		if within(p, tree) || within(tree, p) {
			return PathForbidden
		}
	}
	return PathHarmless
}

// HostPathAllowed reports whether a host volume's path is one of those that the operator opened
// (DRONE_RUNNER_HOST_PATHS), or below one. A docker socket and its folder never are, whatever the
// list says, nor is any path through which the socket could be reached: its parents, and /proc.
//
// The comparison is one of spelling; the engine, which binds the path, has yet to resolve its
// symbolic links and to ask again.
func HostPathAllowed(p string, opened []string) bool {
	switch ClassifyHostPath(p) {
	case PathSocket, PathSocketDir:
		return false
	}
	p = CleanHostPath(p)
	if p == "" || within("/var/run", p) || within(p, "/proc") {
		return false
	}
	for _, root := range opened {
		if root = CleanHostPath(root); root != "" && within(p, root) {
			return true
		}
	}
	return false
}

// within reports whether the clean path p is root or below it.
func within(p, root string) bool {
	return p == root || strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/")
}
