package proctree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	id      = "4f1c0e5d6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f"
	catches = "0000000000004000" // SIGTERM
	neither = "0000000000010002" // SIGINT and SIGCHLD, as a shell does
)

// put writes a process as the kernel shows it.
func put(t *testing.T, proc string, pid, parent int, state, inside, caught string, groups string) {
	t.Helper()
	dir := filepath.Join(proc, strconv.Itoa(pid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("Name:\tx\nState:\t%s\nPPid:\t%d\nNSpid:\t%d\t%s\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t%s\n", state, parent, pid, inside, caught)
	for name, text := range map[string]string{"status": status, "cgroup": groups} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTree(t *testing.T) {
	const (
		v1      = "12:pids:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n"
		systemd = "0::/system.slice/docker-" + id + ".scope\n"
		cell    = "4:memory:/cell-1/docker/" + id + "\n"
		other   = "0::/system.slice/docker-5555.scope\n"
	)
	for name, groups := range map[string]string{"cgroup v1": v1, "systemd": systemd, "in a cell": cell} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			put(t, proc, 90, 1, "S (sleeping)", "90", catches, other)            // somebody else
			put(t, proc, 100, 50, "S (sleeping)", "1", neither, groups)          // sh
			put(t, proc, 101, 100, "S (sleeping)", "7", neither, groups)         // sh
			put(t, proc, 102, 101, "S (sleeping)", "8", catches, groups)         // terraform
			put(t, proc, 103, 102, "S (sleeping)", "9", catches, groups)         // its provider
			put(t, proc, 104, 101, "Z (zombie)", "10", catches, groups)          // has ended
			put(t, proc, 1000, 60, "S (sleeping)", "20", neither, groups)        // docker exec
			put(t, proc, 1001, 1000, "R (running)", "21", catches, groups)       // what it runs
			if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil { // no number
				t.Fatal(err)
			}
			tree, err := of(proc, id)
			if err != nil {
				t.Fatal(err)
			}
			if first, ok := tree.Init(); !ok || first.PID != 100 || first.Handles {
				t.Errorf("first process %+v", first)
			}
			pids := func(list []Process) (out []int) {
				for _, p := range list {
					out = append(out, p.PID)
				}
				return out
			}
			graceful := tree.Graceful()
			if got := pids(graceful); !slices.Equal(got, []int{102, 1001}) {
				t.Errorf("graceful %v", got)
			}
			if got := pids(tree.Ancestors(graceful[0])); !slices.Equal(got, []int{101, 100}) {
				t.Errorf("ancestors %v", got)
			}
			if got := pids(tree.Ancestors(graceful[1])); !slices.Equal(got, []int{1000}) {
				t.Errorf("ancestors %v", got)
			}
			if !tree.Lives(graceful[0]) || tree.Lives(Process{PID: 104}) || tree.Lives(Process{PID: 90}) || tree.Lives(Process{PID: 4444}) {
				t.Error("who lives isn't known")
			}
		})
	}
}

// A process that isn't the container's is never hit, not even by its pid.
func TestSignalHitsNobodyElse(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tree, err := Of(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Signal(Process{PID: cmd.Process.Pid}, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("it ended with %v", err)
	}
	if got := cmd.ProcessState.String(); got != "signal: terminated" {
		t.Errorf("it ended by %q", got)
	}
	if err := tree.Signal(Process{PID: cmd.Process.Pid}, unix.SIGKILL); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}
