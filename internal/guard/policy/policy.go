// Package policy says what a client of a guard may ask a Docker daemon for: containers (Create,
// Update, Exec), networks (NetworkCreate, Connect), volumes, images and builds. It works on the
// typed bodies of requests, without HTTP and without a daemon.
//
// The property: what passes is no more than an unprivileged container of the client's own stage
// could be, carries the stage's labels, and refers to nothing but the stage's own objects.
//
// A request goes through three phases. In the first (resolve), every name in it is looked up by
// questions to the World. In the second (judge), tables of rules judge each field alone, by what
// was found; they ask no questions, and their order doesn't matter. In the third (fill), what is
// the stage's own is filled in: labels, network, hosts, ports, limits, mounts.
//
// The one rule to keep: a field that no rule names must be empty. What a new version of Docker adds
// is refused until somebody has thought about it, and a test fails until then.
package policy

import (
	"context"
	"net/netip"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
)

// Versions of the API that the policy is written for. The newest is the one whose fields,
// parameters and answers the rules are tested against; a newer daemon speaks it as well, so clients
// are offered no later one: in later versions some answers that the guard filters have another form
// (1.53: /system/df), and requests have parts that no rule knows. Below the oldest, starting a
// container takes a HostConfig, which would be a second door to everything.
var Versions = apiversion.Range{Oldest: "1.24", Newest: "1.51"}

// World answers the questions of the rules. What isn't the stage's is not found
// (apierror.IsNotFound).
type World interface {
	// Stage returns what doesn't change while the stage runs.
	Stage() Stage
	// Container finds a container by what a client calls it.
	Container(ctx context.Context, ref string) (Container, error)
	// Absent returns the daemon's name of a container or a network of the stage's own that isn't
	// there, and may come.
	Absent(ref string) string
	// Network finds a network by what a client calls it; "bridge" and "default" are the stage's own
	// network.
	Network(ctx context.Context, ref string) (Network, error)
	// Image finds an image by what a client calls it.
	Image(ctx context.Context, ref string) (Image, error)
	// Volume finds a volume by what a client calls it, and makes it with these labels if there is
	// none.
	Volume(ctx context.Context, ref string, labels map[string]string) (Volume, error)
	// Caller returns what is mounted in the container that the request comes from.
	Caller(ctx context.Context) (Caller, error)
	// Part makes sure that a part of a volume is there and inside of it, and mounts it at a place
	// of its own if the daemon can't.
	Part(ctx context.Context, p Part) (source string, err error)
	// Gateway returns the address of the daemon's machine on the stage's network.
	Gateway(ctx context.Context) (netip.Addr, error)
	// Subnets returns which addresses networks may have.
	Subnets(ctx context.Context) (Subnets, error)
	// Daemon returns what the daemon gives its containers anyway.
	Daemon(ctx context.Context) (Daemon, error)
	// Version returns the newest version of the API that the daemon and the guard speak.
	Version(ctx context.Context) (string, error)
}

// Stage is what doesn't change while a stage runs.
type Stage struct {
	// Labels are put on every object, over the client's own.
	Labels map[string]string
	// Network is the name, in the daemon, of the stage's network.
	Network string
	// Hosts are names that containers find at the gateway, besides host.docker.internal.
	Hosts []string
	// Socket and SocketDir are where the stage's docker socket is, and a folder that holds it, as
	// the daemon sees them; empty refuses mounts of them.
	Socket, SocketDir string
	// SocketGroup is the number of the group that the daemon's own socket belongs to; empty for
	// root's.
	SocketGroup string
	// Unprivileged has containers that ask for privilege run without it, with a warning. Otherwise
	// they are refused.
	Unprivileged bool
	// Limits bound every container.
	Limits Limits
}

// Daemon is what a docker daemon gives its containers anyway.
type Daemon struct {
	// Runtime is the default one.
	Runtime string
	// UserNamespaces says that it maps users, SELinux that it labels.
	UserNamespaces, SELinux bool
	// HardLimits are those of the daemon itself, by Docker's names, where its containers can't be
	// above.
	HardLimits map[string]int64
}

// Container is a container of the stage.
type Container struct {
	ID string
	// Name is the daemon's, without the slash. Shown is the client's, empty for a step.
	Name, Shown string
	// Step says that the runner made it for the pipeline: a client may look at it and join it, and
	// not change it.
	Step   bool
	Mounts []Mount
}

// Network is a network of the stage.
type Network struct {
	ID   string
	Name string // the daemon's
	// Own says that it is the stage's own network, which the runner made.
	Own bool
}

// Image is an image that the stage may use.
type Image struct {
	// Ref is what the daemon knows it by, ID its content ("sha256:…").
	Ref, ID string
	// Volumes, Ports and Labels are those of its configuration.
	Volumes map[string]struct{}
	Ports   map[string]struct{}
	Labels  map[string]string
}

// Volume is a volume of the stage.
type Volume struct {
	Name string // the daemon's
	// Mountpoint is its folder on the daemon's machine.
	Mountpoint string
}

// Part is what is at Path below the folder Root of a volume.
type Part struct {
	Root, Path string
	// Create makes missing folders.
	Create bool
	// Mount asks for a mount point, for daemons that mount no parts of volumes; otherwise only a
	// look is taken.
	Mount bool
}

// Subnets say which addresses networks may have.
type Subnets struct {
	// Pools are where a client may choose subnets from.
	Pools []netip.Prefix
	// Taken are the networks of the daemon's machine.
	Taken []netip.Prefix
	// Reserved must stay reachable for the runner or for stages.
	Reserved []Reservation
}

// Reservation is something that a stage, or the runner, must be able to reach.
type Reservation struct {
	Addresses netip.Prefix
	// Purpose says what is there, in words that may stand in an error: "the Drone server".
	Purpose string
}

// Limits bound every container that a client makes. Zero is no bound. What a client asks for beyond
// is cut down to the bound, with a warning.
type Limits struct {
	Memory int64 // bytes
	// bytes, memory and swap together; 0 with Memory set: the same as Memory's default, twice the
	// memory
	MemorySwap   int64
	NanoCPUs     int64  // 1e9 is one CPU
	CPUPeriod    int64  // microseconds; goes with CPUQuota
	CPUQuota     int64  // microseconds of CPU time a period
	CPUShares    int64  // relative weight
	CPUSet       string // "0-2,4": forced
	Pids         int64
	ShmSize      int64            // bytes
	Ulimits      map[string]int64 // hard limits by name; soft ones can't be above
	CgroupParent string           // forced; a client can't choose one
	OOMScoreAdj  int              // the least
	// Networks bounds how many networks the stage may have at a time; 0 means 32.
	Networks int
}
