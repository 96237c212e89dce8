package fence_test

import (
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// That a fence keeps packets out is tested in package engine, with builds. Here is its life.

var loopback = netip.MustParseAddr("127.0.0.1") // nothing comes for it from outside

// around lists the gateways that a build has fences around.
func TestRaiseWhereThereIsNoSuchAddress(t *testing.T) {
	err := fence.Raise(t.Name(), netip.MustParseAddr("192.0.2.1"))
	if !errors.Is(err, fence.ErrUnavailable) || !strings.Contains(err.Error(), "network namespace") {
		t.Errorf("%v", err)
	}
	if err := fence.Raise(t.Name(), netip.MustParseAddr("::1")); err == nil || errors.Is(err, fence.ErrUnavailable) {
		t.Errorf("an IPv6 gateway: %v", err)
	}
}

func TestRaiseWithoutTheRight(t *testing.T) {
	errs := make(chan error, 2)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its lack of rights with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			errs <- err
		} else {
			errs <- fence.Raise(t.Name(), loopback)
		}
		errs <- fence.Lower(t.Name())
	}()
	if err := <-errs; !errors.Is(err, fence.ErrUnavailable) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("raise: %v", err)
	}
	if err := <-errs; err != nil {
		t.Errorf("lower: %v", err)
	}
}
