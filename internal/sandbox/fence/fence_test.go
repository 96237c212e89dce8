package fence_test

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// That a fence keeps packets out is tested in package engine, with builds. Here is its life.

var loopback = netip.MustParseAddr("127.0.0.1") // nothing comes for it from outside

// around lists the gateways that a build has fences around.
func around(t *testing.T, build string) []string {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, table := range tables {
		if _, gateway, ok := strings.Cut(table.Name, "/"+bridge.Of(build)+"/"); ok {
			out = append(out, gateway)
		}
	}
	return out
}

func raise(t *testing.T, build string) {
	t.Helper()
	t.Cleanup(func() {
		if err := fence.Lower(build); err != nil {
			t.Error(err)
		}
	})
	if err := fence.Raise(build, loopback); err != nil {
		t.Fatal(err)
	}
}

func TestFence(t *testing.T) {
	one, two := t.Name()+"-one", t.Name()+"-two"
	raise(t, one)
	raise(t, one)
	if got := around(t, one); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("raised twice: %q", got)
	}
	// A runner was killed, and its build's subnet belongs to another now, whose own packets the old fence would drop.
	raise(t, two)
	if old, fresh := around(t, one), around(t, two); len(old) != 0 || !slices.Equal(fresh, []string{"127.0.0.1"}) {
		t.Errorf("the fence of a build that is over: %q, of the one that has its address: %q", old, fresh)
	}
	if err := fence.Lower(one); err != nil {
		t.Error(err)
	}
	if got := around(t, two); len(got) != 1 {
		t.Errorf("lowering one build's fence leaves %q of another's", got)
	}
	for range 2 {
		if err := fence.Lower(two); err != nil {
			t.Error(err)
		}
	}
	if got := around(t, two); len(got) != 0 {
		t.Errorf("lowered: %q", got)
	}
}

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
