// Package guard is the docker socket of one stage: a filtering, streaming proxy of the Docker
// Engine API in front of a daemon that many stages share, on a unix socket of the stage's own.
//
// The property: a client of the guard has no more power than an unprivileged container of the
// guard's own stage. It can't reach the daemon's machine, it can neither reach nor see what belongs
// to another stage, and everything that it makes carries the stage's labels, so that it is removed
// at the stage's end.
//
// The one rule to keep: nothing that a client wrote is forwarded. A request is parsed once, into a
// route, path variables, a query and a typed body; each is judged; and what goes to the daemon is
// built anew from the parsed parts. What the guard doesn't know is left out or refused.
//
// The way of a request: router.go finds the route (routes.go is the table of all), decode.go reads
// its body, and a handler (create.go, networks.go, …) answers it. The handler has the
// rules judge the request (package policy), whose questions world.go answers; owner.go says whose
// an object is, and finds it by its name; forward.go and hijack.go carry the request to the daemon
// and its answer back (package dockerd). Calls to BuildKit go through package buildkit. refusal.go
// words errors. What the guard needs of the runner is in runner.go.
//
// The guard doesn't confine containers. That is the work of the daemon, and of Sysbox.
package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/buildkit"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// LabelGuard is on every object that was created through a guard, with the stage's id (Options.ID)
// as its value. It distinguishes what a client made, which is the client's to change and remove,
// from what the runner made for the stage (steps, their volumes and network), which a client may
// use but not remove.
const LabelGuard = "io.drone-runner-sysbox.guard"

// Options of a guard.
type Options struct {
	// ID of the stage: unique among all stages that the daemon has ever seen, and hard to guess.
	// Names in the daemon begin with it, so it must be usable as the beginning of a container's
	// name. Required.
	ID string
	// Labels go onto every object that is created, over the client's own. They must hold OwnerLabel
	// with the value ID.
	Labels map[string]string
	// OwnerLabel is the key of the label that says which stage an object belongs to. Required.
	OwnerLabel string
	// Network is the name, in the daemon, of the stage's network. It must exist before the first
	// request comes. Required.
	Network string
	// Daemon is the path of the daemon's unix socket. Required.
	Daemon string
	// Socket is where the guard's own socket is, as the daemon sees it: it's mounted into
	// containers that ask for a docker socket. Empty refuses such mounts.
	Socket string
	// SocketDir is a folder, as the daemon sees it, that holds the guard's socket as docker.sock
	// and nothing else: for mounts of /var/run. Empty refuses them.
	SocketDir string
	// Hosts are names that the stage's containers find at the gateway of the stage's network,
	// besides host.docker.internal: those of docker daemons that the guard answers for there.
	Hosts []string
	// MountDir is a folder, as the daemon sees it, in which the guard makes mount points for
	// folders inside of volumes. It's needed with daemons that know no volume subpaths (API below
	// 1.45), and only works if the guard is in the daemon's mount namespace and may mount. The
	// guard creates it and removes it with Close. Empty refuses mounts of such folders.
	MountDir string
	// Bridges begins the name of each bridge of the stage; up to four characters follow. The rules
	// that keep published ports from other stages find the bridges by it. The name of Network's own
	// bridge should end in 0. With "", the daemon names the bridges.
	Bridges string
	// Unprivileged has containers that ask for privilege run without it, with a warning. Otherwise
	// they are refused.
	Unprivileged bool
	// Limits bound every container.
	Limits Limits
	// SubnetPools are where a client may choose subnets of networks from. Nil: the daemon's own
	// pools, and private IPv6 if these have none.
	SubnetPools []netip.Prefix
	// CacheScope separates what builds of images keep in cache mounts (RUN --mount=type=cache):
	// stages with the same scope share them. A client that knows a scope can read what is kept
	// there, so a scope must be hard to guess; it has letters and digits only. All stages with the
	// scope "" share one.
	CacheScope string
	// Runner answers what the guard asks the runner, and takes what it reports. nil lets the stage
	// have all images, and forgets the rest.
	Runner Runner
	// OpenImages says that the stage may have all images of the daemon: the Runner isn't asked.
	OpenImages bool
}

// Guard is the proxy of one stage. Create it with New, run it with Serve, end it with Close. It is
// safe for concurrent use.
type Guard struct {
	opts   Options
	log    log
	runner Runner
	names  names.Names
	labels map[string]string // Options.Labels and LabelGuard
	up     *dockerd.Daemon
	own    *ownership
	mounts *mounts.Points
	tags   names.Tags
	images *images
	shown  *shown
	kit    *buildkit.Proxy
	lock   keyedLocks

	// base ends with Close; it is the parent of every request's.
	base   context.Context //nolint:containedctx // the guard's own life
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	servers  map[reach]*http.Server
	hijacked map[io.Closer]struct{}
	// making counts calls that create objects. They outlive their client's patience, and Close
	// waits for them: what is being created must exist before it can be found and removed.
	making sync.WaitGroup
	// serving counts requests, with their hijacked connections.
	serving sync.WaitGroup

	netMu   sync.Mutex
	network *stageNetwork
	// bridges is how many the guard has named.
	bridges atomic.Int64
}

// New makes a guard. It opens nothing until Serve.
func New(o Options) (*Guard, error) {
	switch {
	case o.ID == "" || !names.Valid(o.ID):
		return nil, fmt.Errorf(
			"make a guard: the stage's id %q can't begin the name of a container; it needs letters, digits, dots, dashes and underscores",
			o.ID,
		)
	case o.OwnerLabel == "" || o.Labels[o.OwnerLabel] != o.ID:
		return nil, fmt.Errorf(
			"make a guard for stage %s: its labels don't hold the owner's label %q with the stage's id",
			o.ID,
			o.OwnerLabel,
		)
	case o.Network == "":
		return nil, fmt.Errorf("make a guard for stage %s: the stage's network has no name", o.ID)
	case o.Daemon == "":
		return nil, fmt.Errorf("make a guard for stage %s: no path of the daemon's socket is given", o.ID)
	}
	if o.Runner == nil {
		o.Runner, o.OpenImages = noRunner{}, true
	}
	if o.Limits.Networks == 0 {
		o.Limits.Networks = 32
	}
	labels := maps.Clone(o.Labels)
	labels[LabelGuard] = o.ID
	g := &Guard{
		opts:     o,
		log:      log{o.Runner},
		runner:   o.Runner,
		names:    names.New(o.ID, o.Network, labels),
		tags:     names.NewTags(o.ID),
		shown:    &shown{},
		labels:   labels,
		up:       dockerd.New(o.Daemon, policy.Versions),
		mounts:   mounts.New(o.MountDir, o.Daemon),
		servers:  map[reach]*http.Server{},
		hijacked: map[io.Closer]struct{}{},
	}
	g.images = newImages(g.up, g.tags)
	g.own = newOwnership(owner{o.OwnerLabel, o.ID}, g.up, g.names, o.Network)
	g.kit = buildkit.New(buildkit.Options{ID: o.ID, Names: g.names, CacheScope: o.CacheScope}, world{g})
	g.base, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// Serve answers requests on l until Close is called (then it returns nil), ctx ends (then it closes
// the guard and returns ctx's error), or l fails. It closes l. It is called once for each listener;
// a guard may have several.
func (g *Guard) Serve(ctx context.Context, l net.Listener) error {
	return g.serve(ctx, l, reachWhole)
}

// serve is Serve with a policy for the listener's clients.
func (g *Guard) serve(ctx context.Context, l net.Listener, p reach) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errors.Join(errClosed, l.Close())
	}
	server := g.servers[p]
	if server == nil {
		server = &http.Server{
			Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveHTTP(w, r, p) }),
			BaseContext:       func(net.Listener) context.Context { return g.base },
			ConnContext:       rememberPeer,
			ReadHeaderTimeout: 30 * time.Second,
			MaxHeaderBytes:    256 << 10, // X-Registry-Config holds the credentials of every registry
		}
		server.ErrorLog = g.log.standard()
		g.servers[p] = server
	}
	g.mu.Unlock()

	stop := context.AfterFunc(ctx, func() { _ = g.Close() })
	defer stop()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serve the docker API to build %s on %s: %w", g.opts.ID, l.Addr(), err)
}

var errClosed = errors.New("the guard is closed: its stage has ended")

// Close ends the guard: listeners, connections, hijacked ones too, and requests under way, except
// that it waits for a call that is creating an object, so that all of the stage's objects can be
// found and removed afterwards. It then undoes the mounts in Options.MountDir, which must not be in
// use: remove the stage's containers first if mounts should go, or call Unmount after. Close may be
// called more than once.
func (g *Guard) Close() error {
	g.mu.Lock()
	g.closed = true
	servers := slices.Collect(maps.Values(g.servers))
	open := make([]io.Closer, 0, len(g.hijacked))
	for c := range g.hijacked {
		open = append(open, c)
	}
	g.mu.Unlock()
	g.cancel()
	var err error
	for _, server := range servers {
		err = errors.Join(err, server.Close())
	}
	for _, c := range open {
		_ = c.Close() // the other end may have closed it already
	}
	g.serving.Wait()
	g.making.Wait()
	g.up.Close()
	return err
}

// Unmount undoes what Options.MountDir holds. Call it when the stage's containers are gone.
func (g *Guard) Unmount() error { return g.mounts.Close() }

// serveHTTP answers one request of a client that may do what the policy says.
func (g *Guard) serveHTTP(w http.ResponseWriter, r *http.Request, p reach) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		writeError(w, r, apierror.New(http.StatusServiceUnavailable, errClosed.Error()))
		return
	}
	g.serving.Add(1)
	g.mu.Unlock()
	defer g.serving.Done()

	c, err := g.route(w, r)
	if err == nil {
		err = p.handler(c.route)(r.Context(), c)
	}
	if err == nil || errors.Is(err, dockerd.ErrAnswered) {
		return
	}
	if errors.Is(err, dockerd.ErrBroken) {
		panic(http.ErrAbortHandler)
	}
	g.log.debug("a request is refused", err, "method", r.Method, "path", r.URL.Path)
	writeError(w, r, g.wordError(err))
}

// hold registers a connection that the server not any more knows, so that Close closes it. It
// reports false, and closes c, if the guard is closed.
func (g *Guard) hold(c io.Closer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = c.Close()
		return false
	}
	g.hijacked[c] = struct{}{}
	return true
}

// release forgets and closes a connection.
func (g *Guard) release(c io.Closer) {
	g.mu.Lock()
	delete(g.hijacked, c)
	g.mu.Unlock()
	_ = c.Close()
}

// makingTime bounds a call that creates an object.
const makingTime = 2 * time.Minute

// begin returns the context and the accounting of a call that creates something: it isn't cancelled
// by a client that goes away or by Close, which waits for it instead.
func (g *Guard) begin(ctx context.Context) (context.Context, func(), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, apierror.New(http.StatusServiceUnavailable, errClosed.Error())
	}
	g.making.Add(1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makingTime)
	return ctx, func() { cancel(); g.making.Done() }, nil
}
