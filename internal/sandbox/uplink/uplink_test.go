package uplink

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestDefaultRoute(t *testing.T) {
	route := func(to string, link, metric int) Route {
		return Route{To: netip.MustParsePrefix(to), Link: link, Metric: metric}
	}
	for name, row := range map[string]struct {
		routes []Route
		want   int // the link; 0: none
	}{
		"none":                     {[]Route{route("172.17.0.0/16", 3, 0)}, 0},
		"one":                      {[]Route{route("172.17.0.0/16", 3, 0), route("0.0.0.0/0", 2, 0)}, 2},
		"the lowest metric":        {[]Route{route("0.0.0.0/0", 2, 600), route("0.0.0.0/0", 4, 100)}, 4},
		"IPv6 alone":               {[]Route{route("fd00::/64", 2, 256), route("::/0", 5, 1024)}, 5},
		"IPv4 before IPv6":         {[]Route{route("0.0.0.0/0", 2, 600), route("::/0", 5, 1)}, 2},
		"a half of a VPN isn't it": {[]Route{route("0.0.0.0/1", 9, 0), route("0.0.0.0/0", 2, 0)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := defaultRoute(row.routes); got.Link != row.want {
				t.Errorf("link %d, want %d", got.Link, row.want)
			}
		})
	}
	for to, everywhere := range map[string]bool{"0.0.0.0/0": true, "128.0.0.0/1": true, "10.0.0.0/8": false, "::/0": true, "2000::/3": true, "fd00::/7": false} {
		if got := route(to, 1, 0).Everywhere(); got != everywhere {
			t.Errorf("%s: everywhere %t", to, got)
		}
	}
}

// In a network namespace of its own, with routes of both families by an interface that it makes.
func TestFind(t *testing.T) {
	found := make(chan Uplink, 1)
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with it
		up, err := inNamespace()
		errs <- err
		found <- up
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	up := <-found
	if up.Interface != "up0" || up.MTU != 1380 {
		t.Errorf("the way out is %s with an MTU of %d", up.Interface, up.MTU)
	}
	for _, want := range []string{"198.51.100.0/24", "203.0.113.0/25", "fd00:1::/64", "fd00:2::/48"} {
		if !slices.Contains(up.Taken, netip.MustParsePrefix(want)) {
			t.Errorf("%s isn't taken: %v", want, up.Taken)
		}
	}
	for _, docker := range []string{"172.31.255.0/24", "0.0.0.0/0", "0.0.0.0/1"} {
		if slices.Contains(up.Taken, netip.MustParsePrefix(docker)) {
			t.Errorf("%s is taken: %v", docker, up.Taken)
		}
	}
}

func inNamespace() (Uplink, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return Uplink{}, err
	}
	add := func(name string, mtu int, addrs ...string) (int, error) {
		a := netlink.NewLinkAttrs()
		a.Name, a.MTU = name, mtu
		link := &netlink.Bridge{LinkAttrs: a}
		if err := netlink.LinkAdd(link); err != nil {
			return 0, err
		}
		for _, text := range addrs {
			addr, err := netlink.ParseAddr(text)
			if err == nil {
				addr.Flags = unix.IFA_F_NODAD
				err = netlink.AddrAdd(link, addr)
			}
			if err != nil {
				return 0, err
			}
		}
		return link.Index, netlink.LinkSetUp(link)
	}
	index, err := add("up0", 1380, "198.51.100.2/24", "fd00:1::2/64")
	if err != nil {
		return Uplink{}, err
	}
	if _, err := add("drbabcdefgh0", 1500, "172.31.255.1/24"); err != nil {
		return Uplink{}, err
	}
	for to, via := range map[string]string{"0.0.0.0/0": "198.51.100.1", "0.0.0.0/1": "198.51.100.3", "203.0.113.0/25": "198.51.100.4", "fd00:2::/48": "fd00:1::1"} {
		dst, err := netlink.ParseIPNet(to)
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: dst, Gw: netip.MustParseAddr(via).AsSlice()})
		}
		if err != nil {
			return Uplink{}, errors.New(to + ": " + err.Error())
		}
	}
	return Find()
}
