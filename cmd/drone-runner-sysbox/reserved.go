package main

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// lookupTime bounds how long names of hosts are looked up for a build that chooses the subnet of a network. A host that can't be found in that time isn't one
// that the runner talks to just now.
const lookupTime = 5 * time.Second

// host is one that the runner or its builds talk to.
type host struct{ address, purpose string }

// hosts are those of the configuration: a network of a build that covers one of their addresses would take it from the runner and every build.
func (w wiring) hosts() []host {
	out := []host{{w.cfg.RPC.Address(), "the Drone server"}}
	for _, mirror := range w.cfg.Docker.RegistryMirrors {
		out = append(out, host{mirror, "a registry mirror"})
	}
	for _, plugin := range []string{w.cfg.Plugins.Environ.Endpoint, w.cfg.Plugins.Secret.Endpoint, w.cfg.Plugins.Registry.Endpoint} {
		out = append(out, host{plugin, "a plugin of the runner"})
	}
	return append(out, proxies()...)
}

// proxies are those of the environment, which steps get as well.
func proxies() []host {
	var out []host
	for name, value := range proxy() {
		if !strings.EqualFold(name, "no_proxy") {
			out = append(out, host{value, "the proxy"})
		}
	}
	return out
}

// reserved gives the addresses, as of its call, of this machine's networks, of its DNS servers and of hosts.
func reserved(hosts []host) func(context.Context) []guard.Reservation {
	return func(ctx context.Context) []guard.Reservation {
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		defer cancel()
		var mu sync.Mutex
		var out []guard.Reservation
		add := func(purpose string, addresses ...netip.Prefix) {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range addresses {
				out = append(out, guard.Reservation{Addresses: a, Purpose: purpose})
			}
		}
		if up, err := uplink.Find(); err == nil {
			add("a network or a DNS server of the runner's machine", up.Taken...)
		}
		var lookups sync.WaitGroup
		for _, h := range hosts {
			name := hostOf(h.address)
			if name == "" {
				continue
			}
			lookups.Go(func() {
				found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
				if err != nil {
					return
				}
				for _, a := range found {
					a = a.Unmap().WithZone("")
					add(h.purpose, netip.PrefixFrom(a, a.BitLen()))
				}
			})
		}
		lookups.Wait()
		return out
	}
}

// hostOf is the name or address of the host in a URL; proxies are also written without the scheme.
func hostOf(address string) string {
	if address == "" {
		return ""
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
