package guard

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/peer"
)

// peerKey is the context's key of who is at the other end of a connection.
type peerKey struct{}

// client is who opened a connection: a process that connected to a unix socket, or an address of a
// network.
type client struct {
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
		return context.WithValue(ctx, peerKey{}, client{addr: at.Addr().Unmap()})
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	cred, err := peer.Of(u)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, client{pid: int(cred.Pid)})
}

// containerID finds ids in the path of a cgroup, as docker names it: /docker/ID, /docker-ID.scope.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// callerOf returns the container that a request comes from. A process that has died, or whose pid
// another has taken since, is no danger: the container must be the stage's own in any case, and all
// of a stage's may call.
func (g *Guard) callerOf(ctx context.Context) (policy.Caller, error) {
	who, _ := ctx.Value(peerKey{}).(client)
	var ids []string
	switch {
	case who.pid > 0:
		ids = containersOf(who.pid)
	case who.addr.IsValid():
		id, err := g.containerAt(ctx, who.addr)
		if err != nil {
			return policy.Caller{}, err
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		c, err := world{g}.Container(ctx, id)
		if err == nil {
			return policy.Caller{Mounts: c.Mounts}, nil
		}
		if !apierror.IsNotFound(err) {
			return policy.Caller{}, err
		}
	}
	return g.allMounts(ctx)
}

// containerAt returns the stage's container that has an address in the stage's network, or "" if
// none has.
func (g *Guard) containerAt(ctx context.Context, addr netip.Addr) (string, error) {
	var list []struct {
		ID              string `json:"Id"`
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := g.up.Call(
		ctx, http.MethodGet, "/containers/json", url.Values{"filters": {g.own.filter()}}, nil, &list,
	); err != nil {
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

// containersIn reads /proc/PID/cgroup (cgroups(7)): a line for each controller of cgroup v1, one
// line for v2.
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

// allMounts returns those of all steps of the stage: which one calls can't be told (its process has
// gone, or is in no cgroup of a container).
func (g *Guard) allMounts(ctx context.Context) (policy.Caller, error) {
	var list []struct {
		Names  []string
		Labels map[string]string
		Mounts []policy.Mount
	}
	q := url.Values{"all": {"1"}, "filters": {g.own.filter()}}
	if err := g.up.Call(ctx, http.MethodGet, "/containers/json", q, nil, &list); err != nil {
		return policy.Caller{}, err
	}
	var all policy.Caller
	for _, c := range list {
		if len(c.Names) == 0 || g.own.judgeContainer(c.Names[0], c.Labels) != ofRunner {
			continue
		}
		all.Mounts = append(all.Mounts, c.Mounts...)
	}
	return all, nil
}
