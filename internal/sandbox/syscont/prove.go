package syscont

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
)

// fuseMagic is the statfs type of a FUSE filesystem (linux/magic.h, FUSE_SUPER_MAGIC), which
// sysboxfs is.
const fuseMagic = 0x65735546

// The names of the signals that make the proof, as doctor prints them. Each alone can be had
// elsewhere; all together only inside.
const (
	SignalUserns     = "user namespace"
	SignalSysboxfs   = "sysboxfs"
	SignalMount      = "socket is no mount"
	SignalPeer       = "daemon's pid is visible"
	SignalNamespaces = "daemon's namespaces are ours"
	SignalExe        = "daemon's program is dockerd"
	SignalChild      = "daemon is our child"
	SignalHostname   = "daemon's name is ours"
	SignalUserxattr  = "storage in a user namespace"
)

// DaemonInfo is what the daemon says of itself (GET /info).
type DaemonInfo struct {
	Name   string
	Driver string
	// DriverStatus are the storage driver's pairs of name and value.
	DriverStatus [][2]string
}

// Prover looks at the world around this process. The zero value looks at the real one; tests put a
// folder in place of /proc.
type Prover struct {
	// Host is the daemon's address, unix:///var/run/docker.sock by default.
	Host string
	// Child is the pid of the process that this one started as a daemon or as the first one of a
	// cell, 0 if it started none.
	Child int
	// Cell insists on a daemon in a cell: in a pid namespace right below ours, and a mount
	// namespace of our user namespace. Without it, a daemon in our own namespaces is proven as
	// well.
	Cell bool
	// Info asks the daemon; nil leaves the signals that need it failed.
	Info func(context.Context) (DaemonInfo, error)

	proc     string
	statfs   func(path string) (int64, error)
	hostname func() (string, error)
	peer     func(ctx context.Context, socket string) (unix.Ucred, error)
	above    func(path string, what namespaceOf) (string, error)
}

// Prove checks every signal. Which of them count depends on the sandbox: see Judge.
func (p Prover) Prove(ctx context.Context) []Check {
	p = p.withDefaults()
	return append(p.container(), p.daemon(ctx)...)
}

// Place checks where this process lives, and leaves the daemon out: it may not run yet. A socket
// that is there already and comes from outside fails: our daemon couldn't listen there, and another
// would answer.
func (p Prover) Place() []Check {
	p = p.withDefaults()
	checks := p.container()
	socket, err := socketPath(p.Host)
	if err != nil {
		return append(checks, Check{Name: SignalMount}.fail(err.Error(), fixDaemon))
	}
	if _, err := os.Stat(socket); err == nil {
		checks = append(checks, p.notMounted(socket))
	}
	return checks
}

func (p Prover) withDefaults() Prover {
	if p.Host == "" {
		p.Host = "unix:///var/run/docker.sock"
	}
	if p.proc == "" {
		p.proc = "/proc"
	}
	if p.statfs == nil {
		p.statfs = statfsType
	}
	if p.hostname == nil {
		p.hostname = os.Hostname
	}
	if p.peer == nil {
		p.peer = listener
	}
	if p.above == nil {
		p.above = namespaceAbove
	}
	return p
}

// Judge reduces the signals to those that the sandbox insists on: sandbox.Userns forgives the lack
// of sysboxfs, sandbox.None everything. What is forgiven becomes a Warn.
func Judge(s sandbox.Grade, checks []Check) []Check {
	out := slices.Clone(checks)
	for i, c := range out {
		if c.Status == Fail && (s == sandbox.None || s == sandbox.Userns && c.Name == SignalSysboxfs) {
			out[i].Status = Warn
		}
	}
	return out
}

// container looks at where this process lives.
func (p Prover) container() []Check {
	return []Check{p.userns(), p.sysboxfs()}
}

func (p Prover) userns() Check {
	c := Check{Name: SignalUserns}
	raw, err := os.ReadFile(p.proc + "/self/uid_map")
	if err != nil {
		return c.fail(err.Error(), fixSysbox)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return c.fail(fmt.Sprintf("can't read uid_map %q", line), fixSysbox)
		}
		if f[0] != "0" {
			continue
		}
		if f[1] == "0" {
			return c.fail("uid 0 here is uid 0 of the host", fixSysbox)
		}
		return c.pass("uid 0 here is uid " + f[1] + " outside")
	}
	return c.fail("uid_map gives uid 0 no meaning", fixSysbox)
}

func (p Prover) sysboxfs() Check {
	c := Check{Name: SignalSysboxfs}
	f, err := os.Open(p.proc + "/self/mountinfo")
	if err != nil {
		return c.fail(err.Error(), fixSysbox)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return c.fail(err.Error(), fixSysbox)
	}
	var points []string
	for _, m := range mounts {
		if m.Source == "sysboxfs" && (m.FSType == "fuse" || strings.HasPrefix(m.FSType, "fuse.")) {
			points = append(points, m.Mountpoint)
		}
	}
	if !slices.Contains(points, "/proc/sys") {
		return c.fail("/proc/sys is no mount of sysboxfs", fixSysbox)
	}
	switch kind, err := p.statfs("/proc/sys"); {
	case err != nil:
		return c.fail("statfs /proc/sys: "+err.Error(), fixSysbox)
	case kind != fuseMagic:
		return c.fail(fmt.Sprintf("/proc/sys is of filesystem type %#x, not FUSE", kind), fixSysbox)
	}
	return c.pass("emulates " + strings.Join(points, " "))
}

// daemon looks at where the daemon lives, and asks it.
func (p Prover) daemon(ctx context.Context) []Check {
	checks := p.listener(ctx)
	if last := checks[len(checks)-1]; last.Name != SignalChild {
		return checks // there is nobody to ask
	}
	return append(checks, p.info(ctx)...)
}

// listener looks at the process that listens at the daemon's socket.
func (p Prover) listener(ctx context.Context) []Check {
	socket, err := socketPath(p.Host)
	if err != nil {
		return []Check{Check{Name: SignalPeer}.fail(err.Error(), fixDaemon)}
	}
	checks := []Check{p.notMounted(socket)}
	who, err := p.peer(ctx, socket)
	if err != nil {
		return append(checks, Check{Name: SignalPeer}.fail(err.Error(), fixDaemon))
	}
	visible := Check{Name: SignalPeer}
	if who.Pid == 0 {
		return append(checks, visible.fail(socket+" is served by a process that doesn't exist in here: it is some other machine's or container's daemon", fixDaemon))
	}
	pid := strconv.Itoa(int(who.Pid))
	return append(checks, visible.pass("pid "+pid), p.namespaces(pid), p.exe(pid), p.child(int(who.Pid)))
}

// notMounted checks that nobody put the socket, or a folder with it, there from outside. Mounts of
// our own filesystems (a tmpfs at /run) are none of that: their root is "/".
func (p Prover) notMounted(socket string) Check {
	c := Check{Name: SignalMount}
	real, err := filepath.EvalSymlinks(socket)
	if err != nil {
		return c.fail(err.Error(), fixDaemon)
	}
	f, err := os.Open(p.proc + "/self/mountinfo")
	if err != nil {
		return c.fail(err.Error(), fixDaemon)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return c.fail(err.Error(), fixDaemon)
	}
	for _, m := range mounts {
		below := m.Mountpoint != "/" && strings.HasPrefix(real, m.Mountpoint+"/")
		if m.Mountpoint == real || below && m.Root != "/" {
			return c.fail(m.Mountpoint+" is mounted from outside", "remove the volume or bind at "+m.Mountpoint+" from the runner's container: it has a Docker daemon of its own")
		}
	}
	return c.pass(real)
}

// namespaces compares the daemon's with ours. Those of a cell are others, which the kernel itself
// says are ours: the pid namespace is right below this one, and both belong to this user namespace.
// No daemon outside of the system container has such.
func (p Prover) namespaces(pid string) Check {
	c := Check{Name: SignalNamespaces}
	same := map[string]bool{}
	for _, kind := range []string{"mnt", "pid", "user"} {
		ours, err := namespace(p.proc, "self", kind)
		if err != nil {
			return c.fail(err.Error(), fixDaemon)
		}
		theirs, err := namespace(p.proc, pid, kind)
		if errors.Is(err, os.ErrPermission) {
			return c.fail("the "+kind+" namespace of pid "+pid+" can't be read: it is a process of an outer container or of the host", fixDaemon)
		}
		if err != nil {
			return c.fail(err.Error(), fixDaemon)
		}
		if same[kind] = ours == theirs; !same[kind] && kind == "user" {
			return c.fail(fmt.Sprintf("pid %s is in %s, we are in %s", pid, theirs, ours), fixDaemon)
		}
	}
	switch {
	case same["mnt"] && same["pid"] && !p.Cell:
		return c.pass("mnt, pid, user")
	case same["mnt"] || same["pid"]:
		return c.fail("pid "+pid+" shares a namespace with the runner: it is in no cell", fixDaemon)
	}
	for _, above := range []struct {
		kind string
		what namespaceOf
		of   string
	}{{"pid", namespaceParent, "pid"}, {"pid", namespaceOwner, "user"}, {"mnt", namespaceOwner, "user"}} {
		ours, err := namespace(p.proc, "self", above.of)
		if err != nil {
			return c.fail(err.Error(), fixDaemon)
		}
		theirs, err := p.above(p.proc+"/"+pid+"/ns/"+above.kind, above.what)
		if err != nil {
			return c.fail(fmt.Sprintf("the %s namespace of pid %s is none of ours: %v", above.kind, pid, err), fixDaemon)
		}
		if ours != theirs {
			return c.fail(fmt.Sprintf("the %s namespace of pid %s belongs to %s, not to our %s", above.kind, pid, theirs, ours), fixDaemon)
		}
	}
	return c.pass("a cell's mnt and pid, our user")
}

func (p Prover) exe(pid string) Check {
	c := Check{Name: SignalExe}
	exe, err := os.Readlink(p.proc + "/" + pid + "/exe")
	if err != nil {
		return c.fail("the program of pid "+pid+" can't be read: "+err.Error(), fixDaemon)
	}
	if filepath.Base(exe) != "dockerd" {
		return c.fail("pid "+pid+" is "+exe+", which passes the calls on to who knows where", fixDaemon)
	}
	return c.pass(exe)
}

// child compares the daemon with the process that this one has started, which is the daemon itself
// or its parent, docker-init.
func (p Prover) child(pid int) Check {
	c := Check{Name: SignalChild}
	switch p.Child {
	case 0:
		// A daemon that somebody else started in here is proven by the other signals.
		return Check{Name: SignalChild, Status: Warn, Detail: "this process started no daemon", Fix: "none is needed when this is doctor, run beside the daemon command"}
	case pid:
		return c.pass("pid " + strconv.Itoa(pid))
	}
	if parent, err := parentOf(p.proc, pid); err == nil && parent == p.Child {
		return c.pass(fmt.Sprintf("pid %d, child of %d", pid, parent))
	}
	return c.fail(fmt.Sprintf("the socket is served by pid %d, the process that we started is pid %d", pid, p.Child), fixDaemon)
}

func (p Prover) info(ctx context.Context) []Check {
	name, storage := Check{Name: SignalHostname}, Check{Name: SignalUserxattr}
	if p.Info == nil {
		return []Check{name.fail("the daemon wasn't asked", fixDaemon), storage.fail("the daemon wasn't asked", fixDaemon)}
	}
	info, err := p.Info(ctx)
	if err != nil {
		return []Check{name.fail(err.Error(), fixDaemon), storage.fail(err.Error(), fixDaemon)}
	}
	if host, err := p.hostname(); err != nil {
		name = name.fail(err.Error(), fixDaemon)
	} else if host != info.Name {
		name = name.fail(fmt.Sprintf("the daemon's machine is called %q, this one %q", info.Name, host), fixDaemon)
	} else {
		name = name.pass(host)
	}
	return []Check{name, userxattr(storage, info)}
}

// userxattr: overlay2 keeps its marks in user.* attributes exactly when it runs in a user
// namespace. Other drivers have no such mark and are judged by the other signals.
func userxattr(c Check, info DaemonInfo) Check {
	if info.Driver != "overlay2" {
		return Check{Name: c.Name, Status: Warn, Detail: "the storage driver is " + info.Driver, Fix: "overlay2 is faster and tells more: use a kernel of 5.11 or newer"}
	}
	for _, pair := range info.DriverStatus {
		if pair[0] == "userxattr" {
			if pair[1] == "true" {
				return c.pass("overlay2 with userxattr")
			}
			return c.fail("overlay2 runs with userxattr "+pair[1]+": the daemon is in no user namespace", fixDaemon)
		}
	}
	return c.fail("overlay2 says nothing of userxattr: the daemon is in no user namespace", fixDaemon)
}

const (
	fixSysbox = "run this container with --runtime=sysbox-runc (docker/compose.yml does); DRONE_RUNNER_SANDBOX=userns accepts another user namespace, DRONE_RUNNER_SANDBOX=none is for development"
	fixDaemon = "mount no docker.sock into this container and set no DOCKER_HOST: the runner starts a Docker daemon of its own"
)

func (c Check) pass(detail string) Check {
	c.Status, c.Detail, c.Fix = Pass, detail, ""
	return c
}

func (c Check) fail(detail, fix string) Check {
	c.Status, c.Detail, c.Fix = Fail, detail, fix
	return c
}

func statfsType(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Type), nil
}
