package guardtest

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen listens at a TCP address of the daemon's network namespace until the test ends. What is
// listened on belongs to that namespace, whoever uses it.
func (d *OwnDaemon) Listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	listener, err := enter(d.Netns, func() (net.Listener, error) { return net.Listen("tcp4", addr) })
	if err != nil {
		t.Fatalf("listen at %s in %s: %v", addr, d.Netns, err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// enter calls f in a network namespace. The thread is given back as it was: were it ended instead,
// the programs would be ended too that it has started.
func enter(netns string, f func() (net.Listener, error)) (listener net.Listener, err error) {
	runtime.LockOSThread()
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer before.Close()
	ns, err := os.Open(netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	listener, err = f()
	if back := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back) // and the thread stays locked
	}
	runtime.UnlockOSThread()
	return listener, err
}
