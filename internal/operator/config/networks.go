package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Networks are networks and addresses, separated by commas; "none" is an empty list.
type Networks []netip.Prefix

// UnmarshalText parses 10.0.0.0/8,169.254.169.254.
func (n *Networks) UnmarshalText(raw []byte) error {
	text := string(raw)
	*n = nil
	if strings.TrimSpace(text) == "none" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		network, err := netip.ParsePrefix(part)
		if err != nil {
			address, err := netip.ParseAddr(part)
			if err != nil || address.Zone() != "" {
				return fmt.Errorf("%q is neither a network nor an address: write one such as 10.0.0.0/8 or 169.254.169.254, or none", part)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		*n = append(*n, network.Masked())
	}
	return nil
}
