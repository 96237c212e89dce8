package guard

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
)

// subnetPools returns the daemon's own, unless the options say otherwise.
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

// dockerPools returns the subnets that Docker chooses from when it isn't told otherwise
// (libnetwork/ipamutils).
func dockerPools() []netip.Prefix {
	var out []netip.Prefix
	for i := byte(17); i < 32; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16))
	}
	return append(out, netip.MustParsePrefix("192.168.0.0/16"))
}
