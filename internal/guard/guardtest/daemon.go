package guardtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemonTime bounds how long a daemon may take to answer, and to end.
const daemonTime = 3 * time.Minute

// StartDaemon starts a docker daemon for one test, with the images of this package, and returns the
// path of its socket. It's for tests that could harm a daemon: attacks among them did. (Asking for
// a network on docker0 takes the default network from all who use it, until the daemon is
// restarted.)
//
// It has a network namespace, data and sockets of its own, and shares the mount namespace, so that
// a guard can make mounts for it. It needs root.
func StartDaemon(t testing.TB) string {
	t.Helper()
	d := NewOwnDaemon(t, DaemonOptions{})
	d.Load(t, Image, DockerImage)
	return d.Socket
}

// DaemonOptions of a daemon of a test's own.
type DaemonOptions struct {
	// Config is its daemon.json; empty is none. The machine's own isn't read.
	Config string
	// DiskSize, in bytes, gives it a disk in memory of that size for its data; 0 is a folder on the
	// machine's disk.
	DiskSize int64
}

// OwnDaemon is a docker daemon of one test's own, as StartDaemon describes it, that the test may
// kill, stop and start again.
type OwnDaemon struct {
	// Socket is where it answers, Netns the path of its network namespace.
	Socket, Netns string

	dir  string
	life *life
}

// life is a running dockerd.
type life struct {
	*os.Process
	over chan struct{} // closed when it has ended
}

// NewOwnDaemon starts one, without images. It is ended, and all of it removed, when the test ends.
func NewOwnDaemon(t testing.TB, o DaemonOptions) *OwnDaemon {
	t.Helper()
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	name := "guardtest-" + hex.EncodeToString(random)
	// On the disk: /tmp may be memory, or an overlay, on which no overlay can lie.
	dir, err := os.MkdirTemp("/var/tmp", "guardtest")
	if err != nil {
		t.Fatal(err)
	}
	d := &OwnDaemon{Socket: filepath.Join(dir, "docker.sock"), Netns: "/run/netns/" + name, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			if tail, err := exec.Command("tail", "-n", "100", filepath.Join(dir, "log")).Output(); err == nil {
				t.Logf("the last words of the test's docker daemon:\n%s", tail)
			}
		}
		removeData(t, dir)
	})
	must(t, "ip", "netns", "add", name)
	t.Cleanup(func() { must(t, "ip", "netns", "del", name) })
	must(t, "ip", "-n", name, "link", "set", "lo", "up")
	if o.DiskSize > 0 {
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o711); err != nil {
			t.Fatal(err)
		}
		must(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", o.DiskSize), "guardtest", data)
	}
	if o.Config == "" {
		o.Config = "{}"
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte(o.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopDaemon(t, d.life, d.Socket) })
	d.Start(t)
	return d
}

// Start starts it, at first or after a Kill, and waits until it answers.
func (d *OwnDaemon) Start(t testing.TB) {
	t.Helper()
	if d.start(t) {
		return
	}
	// Docker 20.10.24, when it is killed while it makes a network, may die of what it wrote down of
	// that at each start to come (moby/moby#45057). What is tested is the runner, which does the
	// same with the daemon of a system container.
	t.Log("the test's docker daemon died when it started; again, without the networks that it knew")
	if err := os.Remove(filepath.Join(d.dir, "data", "network", "files", "local-kv.db")); err != nil {
		t.Fatal(err)
	}
	if !d.start(t) {
		t.Fatal("the test's docker daemon dies when it starts")
	}
}

// start makes one try. It reports false if the daemon died before it answered.
func (d *OwnDaemon) start(t testing.TB) bool {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// Not `ip netns exec`: it hides the cgroups.
	cmd := exec.Command("nsenter", "--net="+d.Netns, "dockerd", "--config-file="+filepath.Join(d.dir, "daemon.json"), "--host=unix://"+d.Socket,
		"--data-root="+filepath.Join(d.dir, "data"), "--exec-root="+filepath.Join(d.dir, "exec"), "--pidfile="+filepath.Join(d.dir, "pid"), "--group=root")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	l := &life{over: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that starts it, which ends with a goroutine that doesn't
		// give it back.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		l.Process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // however it ended
			close(l.over)
		}
	}()
	err = <-started
	_ = log.Close() // the daemon has it
	if err != nil {
		t.Fatalf("start a docker daemon: %v", err)
	}
	d.life = l
	ctx, cancel := context.WithTimeout(t.Context(), daemonTime)
	defer cancel()
	for {
		if _, err := run(d.Socket, "version"); err == nil {
			return true
		}
		select {
		case <-l.over:
			return false
		case <-ctx.Done():
			t.Fatalf("the test's docker daemon doesn't answer within %v", daemonTime)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Kill ends it as a crash would, without a chance to end its containers.
func (d *OwnDaemon) Kill(t testing.TB) {
	t.Helper()
	d.signal(t, syscall.SIGKILL)
	<-d.life.over
	// Its containerd goes with it. Where nobody waits for orphans that stays a zombie, which the
	// next life would take for a containerd that lives.
	if err := os.Remove(filepath.Join(d.dir, "exec", "containerd", "containerd.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// Stop makes it hang: it answers nothing until Continue.
func (d *OwnDaemon) Stop(t testing.TB) {
	t.Helper()
	d.signal(t, syscall.SIGSTOP)
}

// Continue ends a Stop.
func (d *OwnDaemon) Continue(t testing.TB) {
	t.Helper()
	d.signal(t, syscall.SIGCONT)
}

func (d *OwnDaemon) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := d.life.Signal(s); err != nil {
		t.Fatalf("send %v to the test's docker daemon: %v", s, err)
	}
}

// Load gives it images of the machine's own daemon.
func (d *OwnDaemon) Load(t testing.TB, images ...string) {
	t.Helper()
	must(t, "bash", "-c", fmt.Sprintf("set -o pipefail; docker -H unix://%s save %s | docker -H unix://%s load", Daemon, strings.Join(images, " "), d.Socket))
}

// stopDaemon ends the daemon, by its pid, and its containers with it.
func stopDaemon(t testing.TB, d *life, socket string) {
	t.Helper()
	_ = d.Signal(syscall.SIGCONT) // a test may have ended between a Stop and its Continue
	if ids, err := run(socket, "ps", "-aq"); err == nil && strings.TrimSpace(ids) != "" {
		// A daemon that ends asks its containers first, and waits.
		_, _ = run(socket, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...)
	}
	if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("end the test's docker daemon: %v", err)
	}
	kill := time.AfterFunc(daemonTime, func() { _ = d.Process.Kill() })
	defer kill.Stop()
	<-d.over
}

// removeData removes a daemon's folder, unless something is still mounted below: that could be
// anything.
func removeData(t testing.TB, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], dir+"/") {
			continue
		}
		if err := syscall.Unmount(fields[1], syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v; the folder is left", fields[1], err)
			return
		}
	}
	must(t, "rm", "-rf", "--one-file-system", dir)
}

func must(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
