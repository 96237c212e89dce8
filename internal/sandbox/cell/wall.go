package cell

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// table is of the rules around all cells.
const table = "drone_runner_sysbox_cells"

// RaiseWall sets the rules of this network namespace for the links of all cells in a range, in
// place of those that a former runner has left, and switches forwarding on:
//
//   - what comes out of a cell leaves with an address of the system container's;
//   - it reaches no address of the system container, but the resolver at the other end of its
//     cable: neither the runner's HTTP port nor anything else that listens in there;
//   - and no other cell.
func RaiseWall(links netip.Prefix) error {
	if err := forward(); err != nil {
		return fmt.Errorf("forward what cells send: %w", err)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("wall in the cells: %w", err)
	}
	family := nftables.TableFamilyIPv4
	t := &nftables.Table{Family: family, Name: table}
	// Added first, so that there is one to delete: all of it is one transaction.
	c.AddTable(t)
	c.DelTable(t)
	t = c.AddTable(t)
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(...[]expr.Any) {
		accept := nftables.ChainPolicyAccept
		ch := c.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept})
		return func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, p := range parts {
				all = append(all, p...)
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: all})
		}
	}
	input := chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	input(fromCell(), established(), verdict(expr.VerdictAccept))
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		input(fromCell(), within(toOffset, links), port53(protocol), verdict(expr.VerdictAccept))
	}
	input(fromCell(), verdict(expr.VerdictDrop))

	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	forward(fromCell(), toCell(expr.CmpOpEq), verdict(expr.VerdictDrop))

	nat := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	nat(within(fromOffset, links), toCell(expr.CmpOpNeq), []expr.Any{&expr.Counter{}, &expr.Masq{}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("wall in the cells with nftables: %w", err)
	}
	return nil
}

// forward switches IP forwarding on, if it isn't.
func forward() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	if b, err := os.ReadFile(file); err == nil && len(b) > 0 && b[0] == '1' {
		return nil
	}
	return os.WriteFile(file, []byte("1"), 0o644)
}

// LowerWall takes the rules away.
func LowerWall() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: table})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the wall around the cells: %w", err)
	}
	return nil
}

// The offsets of a packet's addresses in its header (RFC 791).
const (
	fromOffset = 12
	toOffset   = 16
)

func fromCell() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(Links)}, // without an end: whatever begins so
	}
}

func toCell(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte(Links)},
	}
}

func within(offset uint32, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr().As4()
	mask := ^uint32(0) << (32 - p.Bits())
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr[:]},
	}
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func port53(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: kind}}
}
