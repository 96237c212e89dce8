package syscont

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// Uplink is the way out of this container: what the networks of builds must fit in and keep clear of.
type Uplink struct {
	// Interface is the one of the default route, "" if there is none.
	Interface string
	// MTU in bytes, 0 if there is no default route.
	MTU int
	// Taken are the networks that this container is on, and the addresses of its resolvers.
	Taken []netip.Prefix
}

// FindUplink looks at the routes, interfaces and resolvers of this network namespace. Networks that Docker made in here don't count as taken.
func FindUplink() (Uplink, error) {
	return findUplink("/proc/net/route", "/etc/resolv.conf")
}

func findUplink(routes, resolvers string) (Uplink, error) {
	var up Uplink
	raw, err := os.ReadFile(routes)
	if err != nil {
		return up, fmt.Errorf("read the routes: %w", err)
	}
	up.Interface = defaultRoute(string(raw))
	all, err := net.Interfaces()
	if err != nil {
		return up, fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, i := range all {
		if i.Name == up.Interface {
			up.MTU = i.MTU
		}
		if i.Flags&net.FlagLoopback != 0 || ofDocker(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return up, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				up.Taken = append(up.Taken, p.Masked())
			}
		}
	}
	if raw, err := os.ReadFile(resolvers); err == nil {
		up.Taken = append(up.Taken, nameservers(string(raw))...)
	}
	return up, nil
}

// defaultRoute is the interface of the first route to 0.0.0.0/0 in /proc/net/route.
func defaultRoute(table string) string {
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return f[0]
		}
	}
	return ""
}

// nameservers are the addresses of a resolv.conf(5).
func nameservers(conf string) []netip.Prefix {
	var out []netip.Prefix
	lines := bufio.NewScanner(strings.NewReader(conf))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
				out = append(out, netip.PrefixFrom(a.WithZone(""), a.BitLen()))
			}
		}
	}
	return out
}

// ofDocker tells the bridges and cables of a Docker daemon by name: its own names, and those that the engine gives.
func ofDocker(name string) bool {
	return name == "docker0" || strings.HasPrefix(name, "br-") || strings.HasPrefix(name, fence.Prefix) || strings.HasPrefix(name, "veth")
}
