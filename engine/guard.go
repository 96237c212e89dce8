package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/inprocess"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/netns"
)

// GuardOptions say how the steps of a stage get at Docker: by a guard of the stage's own. See
// package guard.
type GuardOptions struct {
	// Dir takes a folder for each stage that needs a guard, with its sockets. The daemon must see
	// it at the same path: both are on one machine, or in one system container. It is created if
	// absent, for its owner alone.
	Dir string
	// Limits bound every container that a step makes.
	Limits guard.Limits
	// Netns is the path of the network namespace that the daemon's networks are in, as of its call;
	// it changes when the daemon is started anew. nil, and empty, are this process's own.
	Netns func() string
	// Reserved returns what no network of a stage may hide; nil: nothing.
	Reserved func(context.Context) []guard.Reservation
}

// hostName is the name by which steps reach the ports that containers of their stage publish.
const hostName = "host.docker.internal"

// guarded is the guard of a stage.
type guarded struct {
	guard  *guard.Guard
	runner *inprocess.Runner
	build  string
	dir    string
	// subnet of the run's network, and the machine's address there.
	subnet  netip.Prefix
	gateway netip.Addr
	serving sync.WaitGroup
	// inNetns calls a function where the run's network is.
	inNetns func(func() error) error
}

// volumeOf is the first volume of the spec that is of one of the kinds, or nil.
func volumeOf(s *spec.Spec, kinds ...spec.VolumeKind) *spec.Volume {
	for _, v := range s.Volumes {
		if slices.Contains(kinds, v.Kind) {
			return v
		}
	}
	return nil
}

// needsWhole reports whether a step of the spec may do more with Docker than build images.
func needsWhole(s *spec.Spec) bool {
	return volumeOf(s, spec.VolumeSocket, spec.VolumeSocketDir, spec.VolumeCerts) != nil || len(daemons(s)) > 0
}

// needsGuard reports whether any step of the spec has Docker.
func needsGuard(s *spec.Spec) bool {
	return s.NeedsDocker()
}

// checkGuard refuses a spec that needs a guard where there can be none.
func (d *Docker) checkGuard(s *spec.Spec) error {
	if !needsGuard(s) {
		return nil
	}
	what, way := "a plugin builds images with Docker", "take the plugin out"
	if list := daemons(s); len(list) > 0 {
		what, way = fmt.Sprintf("step %q is a docker daemon", list[0].Name), "take the step out"
	} else if v := volumeOf(s, spec.VolumeSocket, spec.VolumeSocketDir); v != nil {
		what, way = fmt.Sprintf("volume %q (%s) is a docker socket", v.Name, v.Path), "take the volume out"
	}
	if d.opts.Guard == nil {
		return fmt.Errorf("%s, and this runner gives none to builds: %s", what, way)
	}
	if _, err := d.daemonSocket(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// daemonSocket is the path of the daemon's own socket, which the guard forwards to.
func (d *Docker) daemonSocket() (string, error) {
	host := d.client.DaemonHost()
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return "", fmt.Errorf("the docker daemon is at %s, and only of one on this machine, at a unix socket, can a build get a guarded share", host)
	}
	return path, nil
}

// socketOf and socketDirOf are where the guard of a stage listens. They are folders apart, since a
// step that has the second one mounted may put anything into it, such as a symlink in place of the
// socket, which the daemon would follow on the next mount of that path.
func (d *Docker) socketOf(s *spec.Spec) string {
	return filepath.Join(d.opts.Guard.Dir, s.ID, "socket", "docker.sock")
}

func (d *Docker) socketDirOf(s *spec.Spec) string {
	return filepath.Join(d.opts.Guard.Dir, s.ID, "run")
}

// pluginSocketOf is where it listens for plugins that build images.
func (d *Docker) pluginSocketOf(s *spec.Spec) string {
	return filepath.Join(d.opts.Guard.Dir, s.ID, "plugin", "docker.sock")
}

// openGuard starts the guard of a stage. The network exists already.
func (d *Docker) openGuard(ctx context.Context, s *spec.Spec) (*guarded, error) {
	subnet, gateway, err := d.gateway(ctx, s)
	if err != nil {
		return nil, err
	}
	daemon, err := d.daemonSocket()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(d.opts.Guard.Dir, s.ID)
	runner := inprocess.New(inprocess.Options{Access: d.opts.Access, Ledger: d.opts.Ledger, Reserved: d.opts.Guard.Reserved, Log: d.log})
	g, err := guard.New(guard.Options{
		ID:           s.ID,
		Labels:       d.labels(s),
		OwnerLabel:   spec.LabelSpec,
		Network:      s.Network.Name,
		Daemon:       daemon,
		Socket:       d.socketOf(s),
		SocketDir:    d.socketDirOf(s),
		Hosts:        daemonNames(s),
		MountDir:     filepath.Join(dir, "mounts"),
		Bridges:      bridge.Of(s.ID),
		Limits:       d.guardLimits(),
		Unprivileged: s.DropPrivileged,
		CacheScope:   d.opts.Scopes.Of(s.CacheScope),
		Runner:       runner,
		OpenImages:   d.opts.Access == nil,
	})
	if err != nil {
		return nil, err
	}
	out := &guarded{guard: g, runner: runner, build: s.ID, dir: dir, subnet: subnet, gateway: gateway, inNetns: d.inNetns}
	if err := d.raiseFence(s, gateway); err != nil {
		return nil, err
	}
	if err := out.open(d, s); err != nil {
		return nil, errors.Join(err, out.close())
	}
	return out, nil
}

// guardLimits are those of what steps start: in shortage of memory it is killed before the daemon,
// as the steps are.
func (d *Docker) guardLimits() guard.Limits {
	l := d.opts.Guard.Limits
	l.OOMScoreAdj = d.oomScore
	return l
}

// open makes the sockets that some step of the stage may have, and no other.
func (g *guarded) open(d *Docker, s *spec.Spec) error {
	if needsWhole(s) {
		for _, socket := range []string{d.socketOf(s), filepath.Join(d.socketDirOf(s), "docker.sock")} {
			if err := g.listen(d, s, socket, g.guard.Serve); err != nil {
				return err
			}
		}
	}
	if volumeOf(s, spec.VolumePluginSocket) != nil {
		if err := g.listen(d, s, d.pluginSocketOf(s), g.guard.ServeImages); err != nil {
			return err
		}
	}
	return g.openDaemons(d, s)
}

// listen serves the guard at a socket that everybody may use who can reach it, which are the
// containers that it's mounted into: the folder above is closed to others.
func (g *guarded) listen(d *Docker, s *spec.Spec, socket string, serve func(context.Context, net.Listener) error) error {
	if err := os.MkdirAll(d.opts.Guard.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for docker sockets of stages: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return fmt.Errorf("make the folder of the docker socket of pipeline %q: %w", s.Name, err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen at the docker socket of pipeline %q: %w", s.Name, err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		return errors.Join(fmt.Errorf("open the docker socket of pipeline %q to its steps: %w", s.Name, err), l.Close())
	}
	g.serve(d, s, l, serve)
	return nil
}

// serve answers at l until the guard is shut.
func (g *guarded) serve(d *Docker, s *spec.Spec, l net.Listener, serve func(context.Context, net.Listener) error) {
	g.serving.Go(func() {
		if err := serve(context.Background(), l); err != nil { // ends with Close
			d.log.WithError(err).WithField("spec", s.ID).Error("the docker socket of a stage broke down")
		}
	})
}

// shut ends the guard: from now on nothing more is made through it.
func (g *guarded) shut() error {
	err := g.guard.Close()
	g.serving.Wait()
	g.runner.Close()
	return err
}

// close removes what is left of it once the containers of the stage are gone.
func (g *guarded) close() error {
	return errors.Join(g.shut(), g.guard.Unmount(), removeMounted(g.dir), g.inNetns(func() error { return fence.Lower(g.build) }))
}

// inNetns calls f in the network namespace of the daemon's networks.
func (d *Docker) inNetns(f func() error) error {
	if d.opts.Guard == nil || d.opts.Guard.Netns == nil {
		return f()
	}
	return netns.Do(d.opts.Guard.Netns(), f)
}

// gateway is the IPv4 subnet of the stage's network, and the machine's address there, at which the
// daemon publishes ports for it.
func (d *Docker) gateway(ctx context.Context, s *spec.Spec) (subnet netip.Prefix, gateway netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	n, err := d.client.NetworkInspect(ctx, s.Network.Name, network.InspectOptions{})
	if err != nil {
		return subnet, gateway, fmt.Errorf("look at the network of pipeline %q: %w", s.Name, err)
	}
	for _, c := range n.IPAM.Config {
		text, _, _ := strings.Cut(c.Gateway, "/") // some versions write the subnet's length behind it
		if gateway, err = netip.ParseAddr(text); err != nil || !gateway.Is4() {
			continue
		}
		if subnet, err = netip.ParsePrefix(c.Subnet); err == nil {
			return subnet, gateway, nil
		}
	}
	return subnet, gateway, fmt.Errorf("look at the network of pipeline %q: it has no IPv4 gateway", s.Name)
}

// publishedAt are the entries of /etc/hosts by which steps reach ports that containers of their
// stage publish, and the daemons that the guard stands in for.
func (d *Docker) publishedAt(s *spec.Spec) []string {
	if r := d.run(s); r != nil {
		if g := r.guard(); g != nil {
			out := []string{hostName + ":" + g.gateway.String()}
			for _, name := range daemonNames(s) {
				out = append(out, name+":"+g.gateway.String())
			}
			return out
		}
	}
	return nil
}

func (r *run) guard() *guarded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.guarded
}

func (d *Docker) shutGuard(r *run) error {
	if r == nil || r.guard() == nil {
		return nil
	}
	if err := r.guard().shut(); err != nil {
		return fmt.Errorf("close the docker socket of the stage: %w", err)
	}
	return nil
}

// closeGuard removes what is left of the guard, and what was made through it without the stage's
// label: the names of images, whose layers stay as the cache of the next build.
func (d *Docker) closeGuard(ctx context.Context, r *run, s *spec.Spec) error {
	if r == nil {
		return d.closeFormerGuard(ctx, s.ID)
	}
	if r.guard() == nil {
		return nil
	}
	daemon, err := d.daemonSocket()
	if err == nil {
		err = d.releaseGuarded(ctx, daemon, s.ID)
	}
	if err = errors.Join(err, r.guard().close()); err != nil {
		return fmt.Errorf("remove the docker socket of the stage: %w", err)
	}
	return nil
}

// releaseGuarded removes what was made in the daemon through the guard of a stage and carries no
// label.
func (d *Docker) releaseGuarded(ctx context.Context, daemon, id string) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Remove)
	defer cancel()
	return guard.Released{Daemon: daemon, OwnerLabel: spec.LabelSpec, ID: id}.Release(ctx)
}
