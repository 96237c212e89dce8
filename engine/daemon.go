package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// A pipeline that starts a docker daemon as a service (docker:dind) finds the guard of its stage at
// that daemon's place: at its name and ports, by a listener on the address that the machine has on
// the stage's network, and at its socket, by mounts in the steps. There is no container that could
// pretend to be it.

// daemons are the steps of the spec that would start one.
func daemons(sp *spec.Spec) []*spec.Step {
	var out []*spec.Step
	for _, s := range sp.Steps {
		if s.Daemon != nil && s.RunPolicy != spec.RunNever {
			out = append(out, s)
		}
	}
	return out
}

// hostNamed matches the names of steps that are host names. Others, such as names with spaces,
// can't be resolved.
var hostNamed = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$`)

// daemonNames are the names at which they are looked for. A step's localhost stays its own,
// whatever a service is called.
func daemonNames(sp *spec.Spec) []string {
	var out []string
	for _, s := range daemons(sp) {
		if hostNamed.MatchString(s.Name) && !strings.EqualFold(s.Name, "localhost") {
			out = append(out, s.Name)
		}
	}
	return out
}

// openDaemons listens where the daemons of the spec would, and makes the certificates.
func (g *guarded) openDaemons(d *Docker, sp *spec.Spec) error {
	list := daemons(sp)
	if len(list) == 0 && volumeOf(sp, spec.VolumeCerts) == nil {
		return nil
	}
	server, err := writeCerts(d.certsOf(sp), append(daemonNames(sp), hostName), g.gateway)
	if err != nil {
		return fmt.Errorf("make the certificates of the docker daemon of pipeline %q: %w", sp.Name, err)
	}
	open := map[int]bool{}
	for _, s := range list {
		for _, port := range s.Daemon.Ports {
			if !open[port] {
				open[port] = true
				if err := g.listenAt(d, sp, s, port, nil); err != nil {
					return err
				}
			}
		}
		for _, port := range s.Daemon.TLSPorts {
			if !open[port] {
				open[port] = true
				if err := g.listenAt(d, sp, s, port, server); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// listenAt serves the guard at a port of the machine's address on the stage's network, with TLS if
// there is a configuration of it.
func (g *guarded) listenAt(d *Docker, s *spec.Spec, step *spec.Step, port int, server *tls.Config) error {
	var l net.Listener
	err := g.inNetns(func() (err error) {
		l, err = net.Listen("tcp4", net.JoinHostPort(g.gateway.String(), strconv.Itoa(port)))
		return err
	})
	if err != nil {
		return fmt.Errorf("listen in place of the docker daemon %q at its port %d (the runner must share the network of its docker daemon's machine; if it doesn't, mount /var/run/docker.sock): %w", step.Name, port, err)
	}
	l = &runListener{Listener: l, subnet: g.subnet, gateway: g.gateway}
	if server != nil {
		l = tls.NewListener(l, server)
	}
	g.serve(d, s, l, g.guard.Serve)
	return nil
}

// runListener takes connections from containers on the network of its stage alone. The address that
// it listens on can be reached from the networks of other stages too; but none of their containers
// gets an answer at an address of this one.
type runListener struct {
	net.Listener
	subnet  netip.Prefix
	gateway netip.Addr
}

// Accept waits for the next connection of a container of the stage.
func (l *runListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && l.admits(from.Addr().Unmap()) {
			return conn, nil
		}
		_ = conn.Close() // a stranger gets no error
	}
}

// admits reports whether the address is a container's of the stage. The gateway's own is the
// machine's.
func (l *runListener) admits(from netip.Addr) bool {
	return l.subnet.Contains(from) && from != l.gateway
}

// daemonContainer is the Container of a step whose docker daemon the guard stands in for: it is up
// at once, and until it's stopped.
type daemonContainer struct{}

// Run waits for the end of ctx.
func (*daemonContainer) Run(ctx context.Context, _ io.Writer, started func()) (spec.Exit, error) {
	if err := ctx.Err(); err != nil {
		return spec.Exit{}, err
	}
	if started != nil {
		started()
	}
	<-ctx.Done()
	return spec.Exit{}, ctx.Err()
}

// Ready is so at once: the guard has answered since before the first step.
func (*daemonContainer) Ready(context.Context) error { return nil }
