// Package reserved lists the addresses that no network of a stage may cover, because the runner or
// its builds talk to them.
package reserved

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

// lookupTime bounds how long names of hosts are looked up for a build that chooses the subnet of a
// network. The runner doesn't talk to a host that can't be found in that time.
const lookupTime = 5 * time.Second

// Host is one that the runner or its builds talk to.
type Host struct {
	// Address is a URL, or a host with a port, as a proxy is written.
	Address string
	Purpose string
}

// Addresses returns a function that lists the addresses, at the time of its call, of this machine's
// networks, its DNS servers, and hosts.
func Addresses(hosts []Host) func(context.Context) []guard.Reservation {
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
			name := hostOf(h.Address)
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
					add(h.Purpose, netip.PrefixFrom(a, a.BitLen()))
				}
			})
		}
		lookups.Wait()
		return out
	}
}

// hostOf returns the name or address of the host in a URL; proxies are also written without the
// scheme.
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
