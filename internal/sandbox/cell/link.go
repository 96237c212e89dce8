package cell

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
)

// Links begins the names of all cables to cells, on the runner's side.
const Links = bridge.Cable

// maxLinks is how many cells fit into a range of addresses.
const maxLinks = 1024

// rangeBits is the length of a range's prefix: four addresses a link.
const rangeBits = 20

// Link is a cable between the system container and a cell: two addresses of their own.
type Link struct {
	// Number makes the link the only one of its addresses and name; 0 to maxLinks-1.
	Number int
	// Range is where the addresses of all links are from; see FindRange.
	Range netip.Prefix
	// MTU in bytes; 0 leaves the kernel's default.
	MTU int
}

// ranges are where addresses of links are looked for, in this order: the one that is set aside for
// tests of networks (RFC 2544), and the far end of the one for carriers (RFC 6598). Nobody's
// servers are there, and Docker takes none of them.
var ranges = []netip.Prefix{
	netip.MustParsePrefix("198.19.240.0/20"),
	netip.MustParsePrefix("100.127.240.0/20"),
	netip.MustParsePrefix("198.18.240.0/20"),
	netip.MustParsePrefix("10.255.240.0/20"),
}

// FindRange is a range for the links of all cells that touches no network which is taken.
func FindRange(taken []netip.Prefix) (netip.Prefix, error) {
	for _, r := range ranges {
		free := true
		for _, t := range taken {
			free = free && !r.Overlaps(t)
		}
		if free {
			return r, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("this container's networks cover every range of addresses that cells could have (%v)", ranges)
}

// Outer is the system container's address on the link, and Inner the cell's.
func (l Link) Outer() netip.Addr { return l.addr(1) }

// Inner is the cell's address.
func (l Link) Inner() netip.Addr { return l.addr(2) }

// Prefix holds both.
func (l Link) Prefix() netip.Prefix { return netip.PrefixFrom(l.addr(0), 30) }

func (l Link) addr(n int) netip.Addr {
	a := l.Range.Addr().As4()
	n += 4 * l.Number
	a[2] += byte(n >> 8)
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// name is of the end on the runner's side.
func (l Link) name() string { return fmt.Sprintf("%s%d", Links, l.Number) }

// connect lays the cable into the network namespace of a process. It goes with that namespace.
func (l Link) connect(pid int) error {
	if l.Number < 0 || l.Number >= maxLinks || l.Range.Bits() > rangeBits {
		return fmt.Errorf("there is no link %d in %s", l.Number, l.Range)
	}
	// A namespace that has just ended takes its cable along, but not at once.
	if old, err := netlink.LinkByName(l.name()); err == nil {
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the former cable %s: %w", l.name(), err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = l.name(), l.MTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: uint32(l.MTU), PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the cable %s: %w", l.name(), err)
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer here.Close()
	if err := raise(here, l.name(), l.Outer()); err != nil {
		return err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	there, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()))
	if err != nil {
		return fmt.Errorf("open netlink in the cell: %w", err)
	}
	defer there.Close()
	lo, err := there.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the cell's lo: %w", err)
	}
	if err := there.LinkSetUp(lo); err != nil {
		return fmt.Errorf("raise the cell's lo: %w", err)
	}
	if err := raise(there, "eth0", l.Inner()); err != nil {
		return err
	}
	if err := there.RouteAdd(&netlink.Route{Gw: net.IP(l.Outer().AsSlice())}); err != nil {
		return fmt.Errorf("route out of the cell: %w", err)
	}
	return nil
}

// raise gives an interface an address and puts it up.
func raise(h *netlink.Handle, name string, addr netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", name, err)
	}
	ip := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(30, 32)}}
	if err := h.AddrAdd(link, ip); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, addr, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("raise the interface %s: %w", name, err)
	}
	return nil
}
