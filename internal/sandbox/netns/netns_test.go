//go:build !unit

package netns

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// other is a process in a network namespace of its own.
func other(t *testing.T) (path string) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net"
}

func now(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDo(t *testing.T) {
	path, before := other(t), now(t)
	inside := ""
	var links []net.Interface
	failure := errors.New("as it is")
	err := Do(path, func() (err error) {
		inside = now(t)
		links, err = net.Interfaces()
		return errors.Join(err, failure)
	})
	if !errors.Is(err, failure) {
		t.Errorf("the error is %v", err)
	}
	if want, err := os.Readlink(path); err != nil || inside != want || inside == before {
		t.Errorf("it was in %s, want %s (%v); before, %s", inside, want, err, before)
	}
	if len(links) != 1 {
		t.Errorf("a new namespace has the interfaces %v", links)
	}
	if after := now(t); after != before {
		t.Errorf("afterwards the thread is in %s, before it was in %s", after, before)
	}
}

func TestDoHere(t *testing.T) {
	before, called := now(t), false
	if err := Do("", func() error { called = now(t) == before; return nil }); err != nil || !called {
		t.Errorf("it wasn't called here (%v)", err)
	}
}

func TestDoNowhere(t *testing.T) {
	if err := Do("/proc/0/ns/net", func() error { t.Error("called"); return nil }); err == nil {
		t.Error("no error")
	}
}
