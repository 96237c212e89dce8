package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// relaySocket is the variable that makes this test's program a stand-in for a daemon which is none.
const relaySocket = "DRONE_RUNNER_TEST_RELAY"

// relay answers at a socket as a Docker daemon does that lives on another machine, until its parent
// ends.
func relay(socket string) int {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	err = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasSuffix(r.URL.Path, "/info") {
			_, _ = io.WriteString(w, "OK")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Name": "elsewhere", "Driver": "overlay2", "DriverStatus": [][2]string{{"userxattr", "false"}}})
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// placed runs the daemon command in a user and mount namespace of its own, after a script has
// arranged the place, and returns its exit code and what it printed.
func placed(t *testing.T, server *rpctest.Server, arrange string, env ...string) (code int, out string) {
	t.Helper()
	// The user namespace's root is nobody outside.
	dir, err := os.MkdirTemp("/var/tmp", "drone-runner-sysbox-proof-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"runner": program, "relay": self} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const dockerd = "#!/bin/sh\n[ \"$1\" != --version ] || { echo 'Docker version 28.0.0, build x'; exit; }\nexec sleep 600\n"
	if err := os.WriteFile(filepath.Join(dir, "dockerd"), []byte(dockerd), 0o755); err != nil {
		t.Fatal(err)
	}
	script := `set -e
for d in /run /var/lib/docker /etc/docker; do [ ! -d $d ] || mount -t tmpfs x $d; done
` + arrange + `
exec ` + dir + `/runner daemon`
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + dir + ":" + os.Getenv("PATH"), "DIR=" + dir,
		"DRONE_RPC_HOST=" + server.Host(), "DRONE_RPC_SECRET=" + server.Secret(), "DRONE_HTTP_BIND=127.0.0.1:0", "DRONE_RUNNER_STATE=/run/state",
	}, env...)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{Uid: 0, Gid: 0}}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// TestDaemonRefusesAPlace shows, for each place that can be made here, that the daemon command ends
// with a status that isn't 0, says why, and asks for no build. docker/system_test.go has the places
// that take a system container.
func TestDaemonRefusesAPlace(t *testing.T) {
	const userns = "DRONE_RUNNER_SANDBOX=userns"
	for _, tt := range []struct {
		name, arrange string
		env           []string
		want          []string
	}{
		{name: "a user namespace without Sysbox", want: []string{syscont.SignalSysboxfs, "DRONE_RUNNER_SANDBOX=sysbox", "sysbox-runc"}},
		{name: "the host's socket mounted in", env: []string{userns},
			arrange: "touch /run/docker.sock; mount --bind /dev/null /run/docker.sock",
			want:    []string{syscont.SignalMount, "/run/docker.sock is mounted from outside", "remove the volume or bind"}},
		{name: "a folder with a socket mounted in", env: []string{userns},
			arrange: "mkdir /run/outer; touch /run/outer/docker.sock /run/docker.sock; mount --bind /run/outer/docker.sock /run/docker.sock",
			want:    []string{syscont.SignalMount, "mounted from outside"}},
		{name: "a relay to another daemon", env: []string{userns},
			arrange: relaySocket + "=/run/docker.sock $DIR/relay & until [ -S /run/docker.sock ]; do sleep 0.02; done",
			want:    []string{syscont.SignalExe, "which passes the calls on"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := rpctest.NewServer(t)
			code, out := placed(t, server, tt.arrange, tt.env...)
			if code != exitFailed {
				t.Errorf("exit status %d, want %d", code, exitFailed)
			}
			for _, want := range append(tt.want, "this is not proven to be a safe place for builds") {
				if !strings.Contains(out, want) {
					t.Errorf("it doesn't say %q:\n%s", want, out)
				}
			}
			if polls := server.Requests(rpctest.CallRequest); len(polls) > 0 {
				t.Errorf("it polled %d times", len(polls))
			}
		})
	}
	t.Run("this machine", func(t *testing.T) {
		server := rpctest.NewServer(t)
		result := call{args: []string{"daemon"}, env: []string{
			"DRONE_RPC_HOST=" + server.Host(), "DRONE_RPC_SECRET=" + server.Secret(), "DRONE_HTTP_BIND=127.0.0.1:0", "DRONE_RUNNER_STATE=" + t.TempDir(), userns,
		}}.run(t)
		if result.code != exitFailed || !strings.Contains(result.stderr, "uid 0 here is uid 0 of the host") {
			t.Error(result)
		}
	})
}
