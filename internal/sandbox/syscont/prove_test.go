package syscont

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
)

// world is what a process would see: the rows of TestProve each change one like inside() into the
// place that they are named for.
type world struct {
	uidMap string
	mounts []string
	statfs int64
	peer   unix.Ucred
	ns     map[string]string // namespaces of the peer; ours are 1
	above  map[string]string // what its own namespaces belong to: "pid/parent", "pid/owner", "mnt/owner"
	cell   bool              // the prover insists on a cell
	parent int               // the peer's parent
	nsErr  error             // reading them fails so
	exe    string
	child  int
	info   DaemonInfo
	host   string
}

const daemonPID = 4242

// inside is a Sysbox system container with the daemon that the runner started, as measured in one.
func inside() world {
	return world{
		uidMap: "         0     100000      65536\n",
		mounts: []string{
			`78 51 0:39 / / rw,relatime - overlay overlay rw`,
			`79 78 0:42 / /proc rw - proc proc rw`,
			`80 79 0:50 /proc/sys /proc/sys rw - fuse sysboxfs rw,user_id=0`,
			`81 79 0:50 /proc/swaps /proc/swaps rw - fuse sysboxfs rw`,
			`82 78 0:51 / /run rw - tmpfs tmpfs rw`,
			`98 78 254:0 /vol/_data /var/lib/docker rw - ext4 /dev/vda rw`,
		},
		statfs: fuseMagic,
		peer:   unix.Ucred{Pid: daemonPID},
		ns:     map[string]string{"mnt": "mnt:[1]", "pid": "pid:[1]", "user": "user:[1]"},
		exe:    "/usr/local/bin/dockerd",
		child:  daemonPID,
		info:   DaemonInfo{Name: "runner-1", Driver: "overlay2", DriverStatus: [][2]string{{"Supports d_type", "true"}, {"userxattr", "true"}}},
		host:   "runner-1",
	}
}

func TestProve(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world)
		// failed are the signals that give the place away. Empty: proven.
		failed []string
		// userns reports whether the weaker grade is proven.
		userns bool
	}{
		{"sysbox with its own dockerd", func(*world) {}, nil, true},
		{"a user namespace without sysbox", func(w *world) { w.mounts = w.mounts[:2]; w.statfs = 0x9fa0 }, []string{SignalSysboxfs}, true},
		{"sysbox with the host's socket mounted in", func(w *world) {
			w.peer = unix.Ucred{Uid: 65534}
			w.mounts = append(w.mounts, "99 78 0:24 /docker.sock /var/run/docker.sock rw - tmpfs tmpfs rw")
		}, []string{SignalMount, SignalPeer}, false},
		{"sysbox with another system container's socket on a shared volume", func(w *world) {
			w.peer = unix.Ucred{}
			w.mounts = append(w.mounts, "99 78 254:0 /shared/_data /var/run rw - ext4 /dev/vda rw")
		}, []string{SignalMount, SignalPeer}, false},
		{"a container inside, with the system container's socket", func(w *world) { w.peer = unix.Ucred{} }, []string{SignalPeer}, false},
		{"a container inside with the pid namespace of its parent", func(w *world) { w.nsErr = os.ErrPermission }, []string{SignalNamespaces, SignalExe}, false},
		{"plain runc with the host's socket", func(w *world) {
			w.uidMap = "0 0 4294967295\n"
			w.mounts = w.mounts[:2]
			w.peer = unix.Ucred{}
		}, []string{SignalUserns, SignalSysboxfs, SignalPeer}, false},
		{"plain runc with the host's socket and pids", func(w *world) {
			w.uidMap = "0 0 4294967295\n"
			w.mounts = w.mounts[:2]
			w.nsErr = os.ErrPermission
		}, []string{SignalUserns, SignalSysboxfs, SignalNamespaces, SignalExe}, false},
		{"the host's socket behind a relay in here", func(w *world) { w.exe = "/usr/bin/socat" }, []string{SignalExe}, false},
		{"a relay that calls itself dockerd", func(w *world) { w.peer.Pid = daemonPID + 1 }, []string{SignalChild}, false},
		{"a daemon in another pid namespace", func(w *world) { w.ns["pid"] = "pid:[2]" }, []string{SignalNamespaces}, false},
		{"a daemon in another mount namespace", func(w *world) { w.ns["mnt"] = "mnt:[2]" }, []string{SignalNamespaces}, false},
		{"a daemon in a cell", inCell, nil, true},
		{"a daemon in a cell, seen by doctor", func(w *world) { inCell(w); w.cell, w.child = false, 0 }, nil, true},
		{"a daemon in a cell that somebody else started", func(w *world) { inCell(w); w.parent = 7 }, []string{SignalChild}, false},
		{"a daemon that should be in a cell and isn't", func(w *world) { w.cell = true }, []string{SignalNamespaces}, false},
		{"a daemon in half a cell", func(w *world) { inCell(w); w.ns["mnt"] = "mnt:[1]" }, []string{SignalNamespaces}, false},
		{"the daemon of a container in a cell", func(w *world) { inCell(w); w.above["pid/parent"] = "pid:[3]" }, []string{SignalNamespaces}, false},
		{"a daemon in a mount namespace of the host's", func(w *world) { inCell(w); w.above["mnt/owner"] = "user:[9]" }, []string{SignalNamespaces}, false},
		{"a daemon in a pid namespace of the host's", func(w *world) { inCell(w); delete(w.above, "pid/parent") }, []string{SignalNamespaces}, false},
		{"a daemon in a cell of another user namespace", func(w *world) { inCell(w); w.ns["user"] = "user:[2]" }, []string{SignalNamespaces}, false},
		{"the host's socket linked into a cell's folder", func(w *world) { inCell(w); w.peer = unix.Ucred{Uid: 65534} }, []string{SignalPeer}, false},
		{"a daemon that calls itself otherwise", func(w *world) { w.info.Name = "host.example.com" }, []string{SignalHostname}, false},
		{"a daemon whose storage is in no user namespace", func(w *world) { w.info.DriverStatus = [][2]string{{"userxattr", "false"}} }, []string{SignalUserxattr}, false},
		{"a daemon too old to tell of its storage", func(w *world) { w.info.DriverStatus = nil }, []string{SignalUserxattr}, false},
		{"a fuse at /proc/sys that is not sysboxfs", func(w *world) { w.mounts[2] = "80 79 0:50 / /proc/sys rw - fuse.lxcfs lxcfs rw" }, []string{SignalSysboxfs}, true},
		{"a sysboxfs in mountinfo alone", func(w *world) { w.statfs = 0x9fa0 }, []string{SignalSysboxfs}, true},
		{"a uid_map that can't be read", func(w *world) { w.uidMap = "garbage\n" }, []string{SignalUserns}, false},
		{"no uid_map at all", func(w *world) { w.uidMap = "" }, []string{SignalUserns}, false},
		{"a mountinfo that can't be read", func(w *world) { w.mounts = []string{"garbage"} }, []string{SignalSysboxfs, SignalMount}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := inside()
			test.change(&w)
			checks := w.prover(t).Prove(t.Context())
			if got, want := names(Failed(Judge(sandbox.Sysbox, checks))), strings.Join(test.failed, ", "); got != want {
				t.Errorf("failed signals: %q, want %q\n%v", got, want, checks)
			}
			if proven := len(Failed(Judge(sandbox.Userns, checks))) == 0; proven != test.userns {
				t.Errorf("proven as a user namespace: %v, want %v\n%v", proven, test.userns, checks)
			}
			if bad := Failed(Judge(sandbox.None, checks)); len(bad) > 0 {
				t.Errorf("sandbox.None insists on %v", bad)
			}
			for _, c := range Failed(checks) {
				if c.Detail == "" || c.Fix == "" {
					t.Errorf("%q says not what was seen or what to do", c)
				}
			}
		})
	}
}

// inCell puts the daemon into a cell: in namespaces of its own, as the child of what we started.
func inCell(w *world) {
	w.ns = map[string]string{"mnt": "mnt:[2]", "pid": "pid:[2]", "user": "user:[1]"}
	w.above = map[string]string{"pid/parent": "pid:[1]", "pid/owner": "user:[1]", "mnt/owner": "user:[1]"}
	w.cell, w.parent, w.child = true, daemonPID-1, daemonPID-1
}

// A namespace above is asked of the kernel itself.
func TestNamespaceAbove(t *testing.T) {
	user, err := namespace("/proc", "self", "user")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := namespaceAbove("/proc/self/ns/mnt", namespaceOwner); err != nil || got != user {
		t.Errorf("our mount namespace belongs to %q (%v), want %q", got, err, user)
	}
	if got, err := namespaceAbove("/proc/self/ns/mnt", namespaceParent); err == nil {
		t.Errorf("a mount namespace has the parent %q", got)
	}
	if got, err := parentOf("/proc", os.Getpid()); err != nil || got != os.Getppid() {
		t.Errorf("our parent is %d (%v), want %d", got, err, os.Getppid())
	}
}

// A socket that this test serves itself is visible and in our namespaces: only its program gives
// the relay away.
func TestProveSeesThroughARelay(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	checks := Prover{Host: "unix://" + socket}.Prove(t.Context())
	for _, want := range []struct {
		name   string
		status Status
	}{{SignalPeer, Pass}, {SignalNamespaces, Pass}, {SignalExe, Fail}} {
		if got := find(checks, want.name); got.Status != want.status {
			t.Errorf("%s: %q, want %s", want.name, got, want.status)
		}
	}
}

func TestProveRefusesAddresses(t *testing.T) {
	for _, host := range []string{"tcp://127.0.0.1:2375", "ssh://root@host", "unix://relative.sock", "npipe:////./pipe/docker"} {
		if checks := (Prover{Host: host}).Prove(t.Context()); find(checks, SignalPeer).Status != Fail {
			t.Errorf("%s: %v", host, checks)
		}
	}
}

func TestProveWithoutAnAnswer(t *testing.T) {
	w := inside()
	p := w.prover(t)
	p.Info = func(context.Context) (DaemonInfo, error) { return DaemonInfo{}, errors.New("connection refused") }
	if got, want := names(Failed(p.Prove(t.Context()))), SignalHostname+", "+SignalUserxattr; got != want {
		t.Errorf("failed signals: %q, want %q", got, want)
	}
}

// prover writes the world down as a folder in place of /proc.
func (w world) prover(t *testing.T) Prover {
	t.Helper()
	proc := t.TempDir()
	pid := strconv.Itoa(int(w.peer.Pid))
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		t.Helper()
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	write("self/uid_map", w.uidMap)
	write("self/mountinfo", strings.Join(w.mounts, "\n")+"\n")
	for _, kind := range []string{"mnt", "pid", "user"} {
		link("self/ns/"+kind, kind+":[1]")
		if w.nsErr == nil {
			link(pid+"/ns/"+kind, w.ns[kind])
		}
	}
	if w.nsErr == nil {
		link(pid+"/exe", w.exe)
	}
	write(pid+"/stat", fmt.Sprintf("%s (a ) name) S %d 1 1", pid, w.parent))
	// The socket's real path is what notMounted compares; the mounts of the table name the usual
	// one.
	socket := filepath.Join(proc, "docker.sock")
	write("docker.sock", "")
	mounts := strings.NewReplacer("/var/run/docker.sock", socket, " /var/run ", " "+proc+" ").Replace(strings.Join(w.mounts, "\n") + "\n")
	write("self/mountinfo", mounts)
	return Prover{
		Host:     "unix://" + socket,
		Child:    w.child,
		Cell:     w.cell,
		Info:     func(context.Context) (DaemonInfo, error) { return w.info, nil },
		proc:     proc,
		statfs:   func(string) (int64, error) { return w.statfs, nil },
		hostname: func() (string, error) { return w.host, nil },
		peer:     func(context.Context, string) (unix.Ucred, error) { return w.peer, nil },
		above: func(path string, what namespaceOf) (string, error) {
			key := filepath.Base(path) + map[namespaceOf]string{namespaceParent: "/parent", namespaceOwner: "/owner"}[what]
			if w.above[key] == "" {
				return "", os.ErrPermission
			}
			return w.above[key], nil
		},
	}
}

func names(checks []Check) string {
	var out []string
	for _, c := range checks {
		out = append(out, c.Name)
	}
	return strings.Join(out, ", ")
}

func find(checks []Check, name string) Check {
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	return Check{Name: name, Status: Status(fmt.Sprintf("missing from %v", checks))}
}
