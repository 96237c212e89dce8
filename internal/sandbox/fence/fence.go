// Package fence keeps the networks of stages apart where Docker doesn't, and from networks that no
// build is to reach.
//
// A published port listens at the gateway of the stage's network, an address of the machine (or
// system container) that the daemon runs on. Docker keeps its bridges apart only for what it
// forwards from one to another. What a container of one stage sends to the gateway of another isn't
// forwarded: the machine takes it in, and Docker's own proxy hands it on. So a fence has a rule
// ahead of all of Docker's: what is for the gateway, and comes in neither from this machine itself
// nor from a bridge of the stage, is dropped. Before Docker 27, bridges aren't kept apart for IPv6
// at all. So a second rule drops what is forwarded to a bridge of the stage over IPv6 and comes
// from elsewhere, answers apart.
//
// The one rule to keep: a fence is tables of its own in nftables, and nothing else's. Docker
// rewrites its chains when it likes and never sees these; to add and to remove them is one
// transaction; and a table's name says whose it is, so that the fence of a runner that was killed
// can be found.
package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
)

// ErrUnavailable is what Raise fails with where there can be no fences at all, for any build.
var ErrUnavailable = errors.New("ports that builds publish can't be kept from other builds here")

// Raise puts the fence around gateway, the IPv4 address of the stage's network, whose bridge
// exists, and around all bridges of the stage for IPv6. It replaces what fence there is around the
// same address, whose stage must be over, as the daemon gives no subnet twice. It needs
// CAP_NET_ADMIN in the network namespace that the daemon's bridges are in, and a kernel with
// nftables; without, it fails with ErrUnavailable and the reason.
func Raise(build string, gateway netip.Addr) error {
	if !gateway.Is4() {
		return fmt.Errorf("fence off the networks of build %s: the gateway %s is no IPv4 address", build, gateway)
	}
	here, err := local(gateway)
	switch {
	case err != nil:
		return fmt.Errorf("fence off the networks of build %s: %w", build, err)
	case !here:
		return fmt.Errorf("%w: the docker daemon's networks aren't in this network namespace; run the runner where the daemon runs", ErrUnavailable)
	}
	c, stale, err := find(func(t tableName) bool { return t.build == bridge.Of(build) || t.gateway == gateway.String() })
	if err != nil {
		return fmt.Errorf("fence off the networks of build %s: %w", build, explain(err))
	}
	for _, t := range stale {
		c.DelTable(t)
	}
	name := tableName{bridge.Of(build), gateway.String()}.String()
	accept := nftables.ChainPolicyAccept
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: name})
	chain := c.AddChain(&nftables.Chain{
		Table: table, Name: "prerouting", Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: foreign(bridge.Of(build), gateway)})
	if hasIPv6() {
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv6, Name: name})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookForward, Priority: ahead,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: intruder(bridge.Of(build))})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("fence off the networks of build %s: %w", build, explain(err))
	}
	return nil
}

// ahead is just before the chains of iptables, and with them Docker's.
var ahead = nftables.ChainPriorityRef(*nftables.ChainPriorityFilter - 5)

// hasIPv6 reports whether the kernel has IPv6, without which nftables has no tables for it.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// Lower removes the fence of a build, whichever process raised it. None is no error, and neither is
// a place where there can be none.
func Lower(build string) error {
	c, tables, err := find(func(t tableName) bool { return t.build == bridge.Of(build) })
	if err == nil && len(tables) > 0 {
		for _, t := range tables {
			c.DelTable(t)
		}
		err = c.Flush()
	}
	if err != nil && !errors.Is(explain(err), ErrUnavailable) {
		return fmt.Errorf("remove the fence of build %s: %w", build, err)
	}
	return nil
}

// foreign drops what is for the gateway and comes from elsewhere than the build: in the words of
// nft(8), ip daddr GATEWAY iifname != "lo" iifname != "BRIDGES*" counter drop.
func foreign(bridges string, gateway netip.Addr) []expr.Any {
	addr := gateway.As4()
	return []expr.Any{
		// the destination (RFC 791)
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr[:]},
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("lo\x00")},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(bridges)}, // without an end: whatever begins so
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// intruder drops what is forwarded to a bridge of the stage, comes from elsewhere, and is no
// answer: in the words of nft(8), oifname "BRIDGES*" iifname != "BRIDGES*" ct state !=
// established,related counter drop.
func intruder(bridges string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(bridges)},
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(bridges)},
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// tableName is whose a table is.
type tableName struct{ build, gateway string }

const tableSpace = "drone_runner_sysbox"

func (t tableName) String() string { return tableSpace + "/" + t.build + "/" + t.gateway }

// find lists the fences that match. A connection to nftables comes with them, which needs no
// closing.
func find(match func(tableName) bool) (*nftables.Conn, []*nftables.Table, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil, err
	}
	all, err := c.ListTables()
	if err != nil {
		return nil, nil, err
	}
	var out []*nftables.Table
	for _, t := range all {
		if t.Family != nftables.TableFamilyIPv4 && t.Family != nftables.TableFamilyIPv6 {
			continue
		}
		if parts := strings.Split(t.Name, "/"); len(parts) == 3 && parts[0] == tableSpace && match(tableName{parts[1], parts[2]}) {
			out = append(out, t)
		}
	}
	return c, out, nil
}

// local reports whether an address is one of this network namespace.
func local(addr netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
			return true, nil
		}
	}
	return false, nil
}

// explain marks failures that no repetition changes as ErrUnavailable.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it takes root, or CAP_NET_ADMIN: %w", ErrUnavailable, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the kernel has no nftables: %w", ErrUnavailable, err)
	}
	return err
}
