package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// whereabouts are what the runner itself knows of a name, against which a failure inside is
// explained.
type whereabouts struct {
	host string
	// resolves is set where the runner itself finds the name.
	resolves bool
	// inHosts is set where it does so by its own /etc/hosts.
	inHosts  bool
	resolver uplink.Resolver
}

func lookup(ctx context.Context, host string, up uplink.Uplink) whereabouts {
	w := whereabouts{host: host, resolver: up.Resolver}
	_, err := net.DefaultResolver.LookupHost(ctx, host)
	w.resolves = err == nil
	if hosts, err := os.ReadFile("/etc/hosts"); err == nil {
		w.inHosts = hostsName(string(hosts), host)
	}
	return w
}

// hostsName reports whether a hosts(5) names the host.
func hostsName(hosts, host string) bool {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && slices.ContainsFunc(f[1:], func(name string) bool { return strings.EqualFold(name, host) }) {
			return true
		}
	}
	return false
}

// advice is what to do about a name that containers don't find.
func (w whereabouts) advice() string {
	all := func(which func(netip.Addr) bool) bool {
		return len(w.resolver.Nameservers) > 0 && !slices.ContainsFunc(w.resolver.Nameservers, func(a netip.Addr) bool { return !which(a) })
	}
	switch {
	case !w.resolves:
		return "the runner doesn't find " + w.host + " either: correct DRONE_RPC_HOST, or put the runner's container on a network whose DNS knows that name"
	case w.inHosts:
		return w.host + " is in the /etc/hosts of the runner (extra_hosts, --add-host), which containers don't see: use a name that the DNS of the runner's network knows, such as an alias of the server's container, or its address"
	case all(netip.Addr.IsLoopback):
		return `the resolvers of the runner are at loopback addresses, where containers find none: set "dns" in /etc/docker/daemon.json of the runner's container to a resolver that they reach`
	case all(netip.Addr.Is6):
		return `the resolvers of the runner have IPv6 addresses, and containers have IPv4 alone: give the runner's container an IPv4 resolver (--dns), or set "dns" in its /etc/docker/daemon.json`
	case !strings.Contains(w.host, ".") && len(w.resolver.Search) == 0:
		return `the Docker daemon keeps names without a dot to itself where an "ndots" is set: {"dns-opts": ["timeout:3"]} in its daemon.json changes that; the daemon of the system container has it unless /etc/docker/daemon.json sets "dns-opts"`
	}
	return `the runner finds it and containers don't: set "dns" in /etc/docker/daemon.json of the runner's container to a resolver that containers reach`
}
