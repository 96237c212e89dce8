package fence

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// blockTable is the table of the networks that no build reaches.
const blockTable = tableSpace + "_block"

// Block keeps everything in this network namespace, and what is forwarded through it, from
// networks: the containers of stages, and what their daemon fetches. It replaces an earlier call's
// rules; no networks remove them.
//
// Two things stay reachable, since the runner can't do without. A resolver in such a network
// answers at port 53. The runner's own process, which shares the namespace with a daemon that is in
// no cell, reaches needed addresses, and so does that daemon; containers don't.
func Block(networks []netip.Prefix, resolvers []netip.Addr, needed []netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("block networks: %w", explain(err))
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: blockTable}
	// Added first, so that there is one to delete: all of it is one transaction.
	c.AddTable(table)
	c.DelTable(table)
	if len(networks) > 0 {
		table = c.AddTable(table)
		for _, hook := range []struct {
			name string
			hook *nftables.ChainHook
			own  bool
		}{{"forward", nftables.ChainHookForward, false}, {"output", nftables.ChainHookOutput, true}} {
			accept := nftables.ChainPolicyAccept
			chain := c.AddChain(&nftables.Chain{Table: table, Name: hook.name, Type: nftables.ChainTypeFilter, Policy: &accept, Hooknum: hook.hook, Priority: ahead})
			add := func(parts ...[]expr.Any) {
				c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(parts...)})
			}
			for _, r := range resolvers {
				for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
					add(to(netip.PrefixFrom(r, r.BitLen())), port53(protocol), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
				}
			}
			for _, n := range needed {
				if hook.own {
					add(to(n), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
				}
			}
			for _, n := range networks {
				add(to(n), []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}})
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("block networks with nftables: %w", explain(err))
	}
	return nil
}

// to matches packets for a network of either family (RFC 791, RFC 8200).
func to(network netip.Prefix) []expr.Any {
	network = network.Masked()
	family, offset, addr := byte(unix.NFPROTO_IPV4), uint32(16), network.Addr().AsSlice()
	if network.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	mask := make([]byte, len(addr))
	for i := range network.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(addr)), Mask: mask, Xor: make([]byte, len(addr))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr},
	}
}

// port53 matches packets for a resolver.
func port53(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
	}
}
