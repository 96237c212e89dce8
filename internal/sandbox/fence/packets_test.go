//go:build !unit

package fence_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// inside calls f in a network namespace.
func inside(t *testing.T, netns string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(netns)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// bench is a Docker daemon of the test's own.
type bench struct {
	*guardtest.OwnDaemon
	t *testing.T
}

func newBench(t *testing.T) bench {
	t.Helper()
	d := guardtest.NewOwnDaemon(t, guardtest.DaemonOptions{})
	d.Load(t, guardtest.Image)
	return bench{d, t}
}

func (b bench) docker(args ...string) string {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "docker", append([]string{"-H", "unix://" + b.Socket}, args...)...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// reaches reports whether a container is answered by an address.
func (b bench) reaches(container, address string) bool {
	b.t.Helper()
	err := exec.CommandContext(b.t.Context(), "docker", "-H", "unix://"+b.Socket, "exec", container, "ping", "-c", "1", "-W", "2", address).Run()
	return err == nil
}

// TestFenceOfIPv6 holds that the networks of two stages don't reach each other over IPv6, but that
// a stage reaches its own.
func TestFenceOfIPv6(t *testing.T) {
	b := newBench(t)
	addresses := map[string]string{}
	gateways := map[string]netip.Addr{}
	for i, stage := range []string{"one", "two"} {
		for j, name := range []string{stage, stage + "-second"} {
			b.docker("network", "create", "--ipv6", "--subnet", fmt.Sprintf("fd00:5ca1:%d:%d::/64", i, j), "--subnet", fmt.Sprintf("172.30.%d.0/24", 2*i+j),
				"-o", bridge.OptionName+"="+bridge.Of(stage)+fmt.Sprint(j), name)
			b.docker("run", "-d", "--name", name, "--network", name, guardtest.Image, "sleep", "600")
			addresses[name] = b.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}", name)
		}
		gateways[stage] = netip.MustParseAddr(fmt.Sprintf("172.30.%d.1", 2*i))
	}
	if !b.reaches("one", addresses["two"]) {
		t.Log("this Docker keeps networks apart for IPv6 by itself")
	}
	inside(t, b.Netns, func() error {
		for stage, gateway := range gateways {
			if err := fence.Raise(stage, gateway); err != nil {
				return err
			}
		}
		return nil
	})
	for _, pair := range [][2]string{{"one", "two"}, {"two", "one"}, {"one-second", "two"}, {"two", "one-second"}} {
		if b.reaches(pair[0], addresses[pair[1]]) {
			t.Errorf("%s reaches %s", pair[0], pair[1])
		}
	}
	b.docker("network", "connect", "one-second", "one")
	if !b.reaches("one", addresses["one-second"]) {
		t.Error("a stage doesn't reach itself")
	}
	inside(t, b.Netns, func() error { return fence.Lower("one") })
}

// TestBlock holds that neither a container nor the machine reaches a blocked network, save for a
// resolver's port and what is needed, and that all is as before once nothing is blocked.
func TestBlock(t *testing.T) {
	b := newBench(t)
	// A machine at the other end of a cable is the metadata service, and another its neighbour.
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	own := strings.TrimPrefix(b.Netns, "/run/netns/")
	far := own + "-far"
	run("ip", "netns", "add", far)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", far).Run() })
	run("ip", "-n", own, "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", far)
	run("ip", "-n", own, "addr", "add", "169.254.169.1/24", "dev", "cable0")
	run("ip", "-n", own, "addr", "add", "fd00:ec2::1/64", "dev", "cable0", "nodad")
	run("ip", "-n", own, "link", "set", "cable0", "up")
	for _, a := range []string{"169.254.169.254/24", "169.254.169.253/24"} {
		run("ip", "-n", far, "addr", "add", a, "dev", "cable1")
	}
	run("ip", "-n", far, "addr", "add", "fd00:ec2::254/64", "dev", "cable1", "nodad")
	run("ip", "-n", far, "link", "set", "cable1", "up")
	b.docker("run", "-d", "--name", "build", guardtest.Image, "sleep", "600")
	// Nothing listens there: an answer is a refusal.
	machine := func(address string) (answers bool) {
		inside(t, b.Netns, func() error {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(address, "9"), 2*time.Second)
			if err == nil {
				_ = c.Close()
			}
			answers = err == nil || errors.Is(err, unix.ECONNREFUSED)
			return nil
		})
		return answers
	}
	const service, service6, neighbour = "169.254.169.254", "fd00:ec2::254", "169.254.169.253"
	expect := func(what string, container, self, self6 bool) {
		t.Helper()
		if got := b.reaches("build", service); got != container {
			t.Errorf("%s: a container reaches the service: %v", what, got)
		}
		if got := machine(service); got != self {
			t.Errorf("%s: the machine reaches the service: %v", what, got)
		}
		if got := machine(service6); got != self6 {
			t.Errorf("%s: the machine reaches the service over IPv6: %v", what, got)
		}
		if !b.reaches("build", neighbour) || !machine(neighbour) {
			t.Errorf("%s: the neighbour is away", what)
		}
	}
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	expect("before", true, true, true)
	blocked := prefixes(service+"/32", service6+"/128")
	inside(t, b.Netns, func() error { return fence.Block(blocked, nil, nil) })
	expect("blocked", false, false, false)
	inside(t, b.Netns, func() error { return fence.Block(blocked, nil, prefixes(service+"/32")) })
	expect("needed by the runner", false, true, false)
	inside(t, b.Netns, func() error { return fence.Block(nil, nil, nil) })
	expect("nothing blocked", true, true, true)
}
