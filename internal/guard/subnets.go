package guard

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// Reservation is something that a build, or the runner, must be able to reach.
type Reservation struct {
	Addresses netip.Prefix
	// Purpose says what is there, in words that may stand in an error: "the Drone server".
	Purpose string
}

// subnet keeps a network's addresses within the pools, and off everything that the daemon's machine has a route to or that is reserved: a network that covers
// the address of the server would receive the runner's own traffic.
func subnet(p *checking, at string, v reflect.Value) error {
	if v.String() == "" {
		return nil
	}
	want, err := netip.ParsePrefix(v.String())
	if err != nil {
		return apierror.BadRequest("%s %s: invalid subnet: %v", at, apierror.Quote(v.String()), err)
	}
	pools, err := p.c.g.subnetPools(p)
	if err != nil {
		return err
	}
	within := slices.ContainsFunc(pools, func(pool netip.Prefix) bool { return pool.Bits() <= want.Bits() && pool.Contains(want.Addr()) })
	if !within {
		return apierror.Refuse(at+" "+apierror.Quote(v.String()), "it isn't within the runner's pools for networks", fmt.Sprintf("leave the subnet out, or choose from %v", pools))
	}
	taken, err := uplink.Networks()
	if err != nil {
		return fmt.Errorf("look which subnets are free: %w", err)
	}
	for _, t := range taken {
		if t.Overlaps(want) {
			return apierror.New(http.StatusForbidden, "Pool overlaps with other one on this address space: "+v.String()+" is in use; leave the subnet out, or choose another")
		}
	}
	if p.c.g.opts.Reserved == nil {
		return nil
	}
	for _, r := range p.c.g.opts.Reserved(p) {
		if r.Addresses.Overlaps(want) {
			return apierror.Refuse(at+" "+apierror.Quote(v.String()), "it would hide "+r.Purpose+", which is at "+r.Addresses.Addr().String(), "leave the subnet out, or choose another")
		}
	}
	return nil
}

// subnetPools are the daemon's own, unless the options say otherwise.
func (g *Guard) subnetPools(ctx context.Context) ([]netip.Prefix, error) {
	if g.opts.SubnetPools != nil {
		return g.opts.SubnetPools, nil
	}
	var info struct {
		DefaultAddressPools []struct{ Base string }
	}
	if err := g.up.Call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return nil, fmt.Errorf("ask the docker daemon for its address pools: %w", err)
	}
	var four, six []netip.Prefix
	for _, pool := range info.DefaultAddressPools {
		base, err := netip.ParsePrefix(pool.Base)
		switch {
		case err != nil:
			return nil, fmt.Errorf("ask the docker daemon for its address pools: %w", err)
		case base.Addr().Is4():
			four = append(four, base.Masked())
		default:
			six = append(six, base.Masked())
		}
	}
	if four == nil {
		four = dockerPools()
	}
	if six == nil {
		six = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} // private addresses (RFC 4193)
	}
	return append(four, six...), nil
}

// dockerPools are the subnets that Docker chooses from when it isn't told otherwise (libnetwork/ipamutils).
func dockerPools() []netip.Prefix {
	var out []netip.Prefix
	for i := byte(17); i < 32; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16))
	}
	return append(out, netip.MustParsePrefix("192.168.0.0/16"))
}
