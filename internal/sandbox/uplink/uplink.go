// Package uplink reads the way out of the network namespace that the runner is in: its default
// route, its networks and its resolvers. The networks of stages must fit into that way, and must
// not hide anything on it.
//
// The one rule to keep: it reports what the kernel and resolv.conf say, for IPv4 and IPv6 alike,
// and decides nothing.
package uplink

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
)

// Uplink is the way out of this network namespace.
type Uplink struct {
	// Interface of the default route, "" if there is none.
	Interface string
	// MTU of that interface in bytes, 0 if there is no default route.
	MTU int
	// Taken are the networks that this namespace is on or has routes to, and the addresses of its
	// resolvers. Networks that Docker made here are not among them.
	Taken []netip.Prefix
	// Resolver is /etc/resolv.conf.
	Resolver Resolver
}

// Find reads the routes, interfaces and resolvers of this network namespace. A missing resolv.conf
// is no error.
func Find() (Uplink, error) {
	links, err := net.Interfaces()
	if err != nil {
		return Uplink{}, fmt.Errorf("list the network interfaces: %w", err)
	}
	routes, err := Routes()
	if err != nil {
		return Uplink{}, err
	}
	var up Uplink
	if d, ok := defaultRoute(routes); ok {
		up.Interface, up.MTU = named(links, d.Link)
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 || ofDocker(link.Name) {
			continue
		}
		networks, err := networksOf(link)
		if err != nil {
			return Uplink{}, err
		}
		up.Taken = append(up.Taken, networks...)
		for _, r := range routes {
			if r.Link == link.Index && !r.Everywhere() {
				up.Taken = append(up.Taken, r.To)
			}
		}
	}
	if up.Resolver, err = ReadResolver("/etc/resolv.conf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Uplink{}, err
	}
	for _, a := range up.Resolver.Nameservers {
		if !a.IsLoopback() {
			up.Taken = append(up.Taken, netip.PrefixFrom(a.WithZone(""), a.BitLen()))
		}
	}
	slices.SortFunc(up.Taken, netip.Prefix.Compare)
	up.Taken = slices.Compact(up.Taken)
	return up, nil
}

// Networks lists the networks of all interfaces of this namespace, those of Docker included, and
// the destinations of its routes, default routes apart.
func Networks() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	routes, err := Routes()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, link := range links {
		networks, err := networksOf(link)
		if err != nil {
			return nil, err
		}
		out = append(out, networks...)
	}
	for _, r := range routes {
		if !r.Everywhere() {
			out = append(out, r.To)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// Route is an entry of the main routing table.
type Route struct {
	To netip.Prefix
	// Link is the index of the interface that it leaves by.
	Link int
	// Metric orders routes to one destination: the lowest wins.
	Metric int
}

// halves is the length of a prefix that is a default route in all but name: VPNs set 0.0.0.0/1 and
// 128.0.0.0/1 over the default route, to win over it without removing it. No network that a machine
// has is wider than a /8.
const halves = 7

// Everywhere reports whether the route is a default route, or a part of one.
func (r Route) Everywhere() bool {
	return r.To.Bits() <= halves && (r.To.Addr().Is4() || r.To.Bits() <= 3)
}

// Routes lists the unicast routes of the main table, IPv4 before IPv6.
func Routes() ([]Route, error) {
	var out []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("read the routing table: %w", err)
		}
		for _, r := range found {
			to := destination(family, r.Dst)
			if r.LinkIndex != 0 {
				out = append(out, Route{To: to, Link: r.LinkIndex, Metric: r.Priority})
			}
			for _, hop := range r.MultiPath {
				out = append(out, Route{To: to, Link: hop.LinkIndex, Metric: r.Priority})
			}
		}
	}
	return out, nil
}

// destination of a route; the kernel leaves that of a default route out.
func destination(family int, to *net.IPNet) netip.Prefix {
	if to != nil {
		if addr, ok := netip.AddrFromSlice(to.IP); ok {
			ones, _ := to.Mask.Size()
			return netip.PrefixFrom(addr.Unmap(), ones).Masked()
		}
	}
	if family == netlink.FAMILY_V4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// defaultRoute is the default route with the lowest metric, of IPv4 if there is one.
func defaultRoute(routes []Route) (best Route, ok bool) {
	for _, r := range routes {
		if r.To.Bits() != 0 {
			continue
		}
		if !ok || r.To.Addr().Is4() == best.To.Addr().Is4() && r.Metric < best.Metric {
			best, ok = r, true
		}
	}
	return best, ok
}

func named(links []net.Interface, index int) (name string, mtu int) {
	for _, link := range links {
		if link.Index == index {
			return link.Name, link.MTU
		}
	}
	return "", 0
}

func networksOf(link net.Interface) ([]netip.Prefix, error) {
	addrs, err := link.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", link.Name, err)
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out, nil
}

// ofDocker reports whether Docker made an interface, by its name: Docker's own names, and those
// that the engine gives to bridges. A cable to a cell, which holds a Docker, counts as well.
func ofDocker(name string) bool {
	return slices.ContainsFunc([]string{"br-", bridge.Prefix, bridge.Cable, "veth"}, func(p string) bool { return strings.HasPrefix(name, p) }) || name == "docker0"
}
