package guardtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemonTime bounds how long a daemon may take to answer, and to end.
const daemonTime = time.Minute

// StartDaemon starts a docker daemon for one test, with the images of this package, and returns the path of its socket. It's for tests that could harm a
// daemon: attacks among them did. (Asking for a network on docker0 takes the default network from all who use it, until the daemon is restarted.)
//
// It has a network namespace, data and sockets of its own, and shares the mount namespace, so that a guard can make mounts for it. It needs root.
func StartDaemon(t testing.TB) string {
	t.Helper()
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	name := "guardtest-" + hex.EncodeToString(random)
	// On the disk: /tmp may be memory, or an overlay, on which no overlay can lie.
	dir, err := os.MkdirTemp("/var/tmp", "guardtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if tail, err := exec.Command("tail", "-n", "20", filepath.Join(dir, "log")).Output(); err == nil {
				t.Logf("the last words of the test's docker daemon:\n%s", tail)
			}
		}
		removeData(t, dir)
	})
	must(t, "ip", "netns", "add", name)
	t.Cleanup(func() { must(t, "ip", "netns", "del", name) })
	must(t, "ip", "-n", name, "link", "set", "lo", "up")

	socket := filepath.Join(dir, "docker.sock")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "daemon.json") // the machine's own isn't read
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Not `ip netns exec`: it hides the cgroups.
	cmd := exec.Command("nsenter", "--net=/run/netns/"+name, "dockerd", "--config-file="+config, "--host=unix://"+socket, "--data-root="+filepath.Join(dir, "data"),
		"--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"), "--group=root")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	_ = log.Close() // the daemon has it
	if err != nil {
		t.Fatalf("start a docker daemon: %v", err)
	}
	t.Cleanup(func() { stopDaemon(t, cmd, socket) })

	ctx, cancel := context.WithTimeout(t.Context(), daemonTime)
	defer cancel()
	for {
		if _, err := run(socket, "version"); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the test's docker daemon doesn't answer within %v", daemonTime)
		case <-time.After(100 * time.Millisecond):
		}
	}
	pipe := fmt.Sprintf("set -o pipefail; docker -H unix://%s save %s %s | docker -H unix://%s load", Daemon, Image, DockerImage, socket)
	must(t, "bash", "-c", pipe)
	return socket
}

// stopDaemon ends the daemon that cmd started, by its pid, and its containers with it.
func stopDaemon(t testing.TB, cmd *exec.Cmd, socket string) {
	t.Helper()
	if ids, err := run(socket, "ps", "-aq"); err == nil && strings.TrimSpace(ids) != "" {
		// A daemon that ends asks its containers first, and waits.
		_, _ = run(socket, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("end the test's docker daemon: %v", err)
	}
	kill := time.AfterFunc(daemonTime, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // it was told to end
}

// removeData removes a daemon's folder, unless something is still mounted below: that could be anything.
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
