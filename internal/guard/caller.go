package guard

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// peerKey is the context's key of who is at the other end of a connection.
type peerKey struct{}

// peer is who opened a connection: a process that connected to a unix socket, or an address of a network.
type peer struct {
	pid  int
	addr netip.Addr
}

// rememberPeer notes, for all requests of a connection, who opened it.
func rememberPeer(ctx context.Context, conn net.Conn) context.Context {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		at, err := netip.ParseAddrPort(t.RemoteAddr().String())
		if err != nil {
			return ctx
		}
		return context.WithValue(ctx, peerKey{}, peer{addr: at.Addr().Unmap()})
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer{pid: int(cred.Pid)})
}

// caller is a container of the build, and what is mounted in it. It answers what a path means to the client.
type caller struct {
	id     string // empty: it isn't known which container calls, and the mounts are those of all steps
	mounts []callerMount
}

// callerMount is a mount as the daemon tells of it.
type callerMount struct {
	Type        string
	Name        string // of a volume
	Source      string // on the daemon's machine
	Destination string
	RW          bool
	// Subpath of the volume that is mounted.
	Subpath string `json:"-"`
}

// containerID finds ids in the path of a cgroup, as docker names it: /docker/ID, /docker-ID.scope.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// callerOf is the container that a request comes from. A process that has died, or whose pid another has taken since, is no danger: the container must be the
// build's own in any case, and all of a build's may call.
func (g *Guard) callerOf(ctx context.Context) (*caller, error) {
	who, _ := ctx.Value(peerKey{}).(peer)
	var ids []string
	switch {
	case who.pid > 0:
		ids = containersOf(who.pid)
	case who.addr.IsValid():
		id, err := g.containerAt(ctx, who.addr)
		if err != nil {
			return nil, err
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		c, err := g.mountsOf(ctx, id)
		if err == nil {
			return c, nil
		}
		if !apierror.IsNotFound(err) {
			return nil, err
		}
	}
	return g.allMounts(ctx)
}

// containerAt is the build's container that has an address in the build's network, or "" if none has.
func (g *Guard) containerAt(ctx context.Context, addr netip.Addr) (string, error) {
	var list []struct {
		ID              string `json:"Id"`
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := g.up.Call(ctx, http.MethodGet, "/containers/json", url.Values{"filters": {g.own.ownerFilter()}}, nil, &list); err != nil {
		return "", err
	}
	for _, c := range list {
		if c.NetworkSettings.Networks[g.opts.Network].IPAddress == addr.String() {
			return c.ID, nil
		}
	}
	return "", nil
}

// containersOf lists the containers whose cgroups a process is in, innermost first.
func containersOf(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil // it has ended
	}
	return containersIn(string(b))
}

// containersIn reads /proc/PID/cgroup (cgroups(7)): a line for each controller of cgroup v1, one line for v2.
func containersIn(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		ids := containerID.FindAllString(line, -1)
		slices.Reverse(ids)
		for _, id := range ids {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// mountsOf is what is mounted in a container of the build.
func (g *Guard) mountsOf(ctx context.Context, ref string) (*caller, error) {
	c, err := g.own.inspectContainer(ctx, ref, "", nil)
	if err != nil {
		return nil, err
	}
	var in struct {
		Mounts     []callerMount
		HostConfig struct {
			Mounts []struct {
				Target        string
				VolumeOptions *struct{ Subpath string }
			}
		}
	}
	if err := json.Unmarshal(c.raw, &in); err != nil {
		return nil, fmt.Errorf("read the mounts of a container: %w", err)
	}
	for _, h := range in.HostConfig.Mounts {
		for i := range in.Mounts {
			if h.VolumeOptions != nil && in.Mounts[i].Destination == path.Clean(h.Target) {
				in.Mounts[i].Subpath = h.VolumeOptions.Subpath
			}
		}
	}
	return &caller{id: c.ID, mounts: in.Mounts}, nil
}

// allMounts are those of all steps of the build: which one calls can't be told (its process has gone, or is in no cgroup of a container).
func (g *Guard) allMounts(ctx context.Context) (*caller, error) {
	var list []struct {
		Names  []string
		Labels map[string]string
		Mounts []callerMount
	}
	q := url.Values{"all": {"1"}, "filters": {g.own.ownerFilter()}}
	if err := g.up.Call(ctx, http.MethodGet, "/containers/json", q, nil, &list); err != nil {
		return nil, err
	}
	all := &caller{}
	for _, c := range list {
		if len(c.Names) == 0 || g.own.judgeContainer(c.Names[0], c.Labels) != ofRunner {
			continue
		}
		all.mounts = append(all.mounts, c.Mounts...)
	}
	return all, nil
}

// find is the mount that a path is in, and the path below it. It fails if steps disagree on what is there.
func (c *caller) find(p string) (m callerMount, rel string, found bool, err error) {
	for _, have := range c.mounts {
		below, ok := below(have.Destination, p)
		if !ok {
			continue
		}
		switch {
		case !found || len(have.Destination) > len(m.Destination):
			m, rel, found = have, below, true
		case have.Destination == m.Destination && (have.Source != m.Source || have.Name != m.Name):
			return m, "", false, fmt.Errorf("steps of this build have different volumes at %s", m.Destination)
		case have.Destination == m.Destination && !have.RW:
			m.RW = false
		}
	}
	return m, rel, found, nil
}

// below is the path of p under dir, "" if it's dir itself. Both are absolute and clean.
func below(dir, p string) (string, bool) {
	if p == dir {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(p, dir)
}
