package syscont

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// Options say how the system container is brought up. The zero value of each field but Log has a
// default that is right inside the image.
type Options struct {
	// Sandbox is what the proof insists on; sandbox.Sysbox by default. sandbox.None is no business
	// of this package.
	Sandbox sandbox.Grade
	// DataRoot is the folder for the data of Docker daemons, a volume: /var/lib/docker.
	DataRoot string
	// RunDir is the runner's folder: /run/drone-runner-sysbox.
	RunDir string
	// OperatorConfig is the daemon.json that is merged over ours, if it exists:
	// /etc/docker/daemon.json.
	OperatorConfig string
	// Socket is where Docker is looked for by custom, and where no socket may be mounted:
	// /var/run/docker.sock.
	Socket string
	// RegistryMirrors and InsecureRegistries as in DaemonSettings.
	RegistryMirrors, InsecureRegistries []string
	// Avoid are addresses that the runner or its builds talk to, beside the networks and resolvers
	// that Boot finds: no network of a stage may hide them.
	Avoid []netip.Prefix
	Log   logrus.FieldLogger
}

// System is the booted system container: a proven place for daemons, whose data folder is locked.
type System struct {
	// Uplink is its way out.
	Uplink uplink.Uplink

	options  Options
	operator []byte
	major    int
	place    *place
	lock     *Lock
}

// RefusedError says that this is not the place that the sandbox insists on.
type RefusedError struct {
	Sandbox sandbox.Grade
	Checks  []Check
}

// Error has a line for each signal that failed.
func (e *RefusedError) Error() string {
	lines := []string{fmt.Sprintf("this is not proven to be a safe place for builds (DRONE_RUNNER_SANDBOX=%s):", e.Sandbox)}
	for _, c := range e.Checks {
		lines = append(lines, "  "+c.String())
	}
	return strings.Join(lines, "\n")
}

// Boot looks at the place, takes the lock of the data folder, and reads what daemons have to be
// configured with. It starts nothing. The order matters: a daemon that is started in the
// wrong place, on the host for one, would do harm before any proof could fail.
func Boot(o Options) (*System, error) {
	o.Sandbox = sandbox.Grade(or(string(o.Sandbox), string(sandbox.Sysbox)))
	o.DataRoot = or(o.DataRoot, "/var/lib/docker")
	o.RunDir = or(o.RunDir, "/run/drone-runner-sysbox")
	o.OperatorConfig = or(o.OperatorConfig, "/etc/docker/daemon.json")
	o.Socket = or(o.Socket, "/var/run/docker.sock")
	if bad := Failed(Judge(o.Sandbox, Prover{Host: "unix://" + o.Socket}.Place())); len(bad) > 0 {
		return nil, &RefusedError{o.Sandbox, bad}
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" && host != "unix://"+o.Socket {
		return nil, fmt.Errorf("DOCKER_HOST is %q: the runner starts a Docker daemon of its own and uses no other; unset it (DRONE_RUNNER_SANDBOX=none uses it, for development)", host)
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("start a Docker daemon: %w: it is part of the runner's image (docker/Dockerfile); outside of it, DRONE_RUNNER_SANDBOX=none uses a Docker that is there", err)
	}
	if err := alone(o.Sandbox, o.Socket); err != nil {
		return nil, err
	}
	lock, err := LockData(o.DataRoot)
	if err != nil {
		return nil, err
	}
	s := &System{options: o, lock: lock, major: dockerdMajor(), place: newPlace(o.RunDir, o.Sandbox == sandbox.Sysbox)}
	if err := s.look(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// alone refuses a place where somebody answers already at the socket where Docker is looked for.
func alone(grade sandbox.Grade, socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	pid, err := PeerPID(ctx, socket)
	if err != nil {
		return nil // nobody does
	}
	if bad := Failed(Judge(grade, Prover{Host: "unix://" + socket}.withDefaults().listener(ctx))); len(bad) > 0 {
		return &RefusedError{grade, bad}
	}
	return fmt.Errorf("a Docker daemon runs already as pid %d (%s): the runner starts its own; stop that one", pid, socket)
}

// look finds the way out and the operator's configuration, and tries whether that can be had.
func (s *System) look() (err error) {
	if s.Uplink, err = uplink.Find(); err != nil {
		return err
	}
	s.operator, err = os.ReadFile(s.options.OperatorConfig)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the operator's configuration of the Docker daemon: %w", err)
	}
	_, err = s.DaemonConfig(s.options.DataRoot, s.options.Socket)
	return err
}

// DaemonConfig is the daemon.json of a daemon with that data folder and socket, whose networks keep
// clear of taken ones besides those of this container.
func (s *System) DaemonConfig(data, socket string, taken ...netip.Prefix) ([]byte, error) {
	return DaemonConfig(DaemonSettings{
		DataRoot: data, Socket: socket,
		MTU: s.Uplink.MTU, NetworkMTU: s.major >= 24,
		RegistryMirrors: s.options.RegistryMirrors, InsecureRegistries: s.options.InsecureRegistries,
		Taken: slices.Concat(s.Uplink.Taken, s.options.Avoid, taken), DNSOptions: s.Uplink.Resolver.DaemonOptions(),
	}, s.operator)
}

// Close lets go of the data folder, when no daemon runs any more.
func (s *System) Close() error { return s.lock.Close() }

// Probe asks a daemon and then the place whether containers can be started. Listing containers
// takes the daemon's locks, which a ping doesn't.
func (s *System) Probe(ctx context.Context, c client.ContainerAPIClient) error {
	if _, err := c.ContainerList(ctx, container.ListOptions{Limit: 1}); err != nil {
		return err
	}
	return s.place.check(ctx)
}

// Prove refuses a daemon that isn't in the cell that this process has started with the process
// child. The error is a RefusedError.
func (s *System) Prove(ctx context.Context, socket string, child int, c client.SystemAPIClient) error {
	checks := Judge(s.options.Sandbox, Prover{Host: "unix://" + socket, Child: child, Cell: true, Info: InfoOf(c)}.Prove(ctx))
	if bad := Failed(checks); len(bad) > 0 {
		return &RefusedError{s.options.Sandbox, bad}
	}
	for _, c := range checks {
		if c.Status == Warn {
			s.options.Log.Warn(c.String())
		} else {
			s.options.Log.Debug(c.String())
		}
	}
	return nil
}

// InfoOf asks a daemon over its API (GET /info).
func InfoOf(c client.SystemAPIClient) func(context.Context) (DaemonInfo, error) {
	return func(ctx context.Context) (DaemonInfo, error) {
		info, err := c.Info(ctx)
		if err != nil {
			return DaemonInfo{}, fmt.Errorf("ask the Docker daemon about itself: %w", err)
		}
		return DaemonInfo{Name: info.Name, Driver: info.Driver, DriverStatus: info.DriverStatus}, nil
	}
}

var majorVersion = regexp.MustCompile(`version (\d+)\.`)

// dockerdMajor is the major version of the dockerd in PATH, 0 if there is none: an older one
// doesn't start with a key that it doesn't know.
func dockerdMajor() int {
	out, err := exec.Command("dockerd", "--version").Output()
	if err != nil {
		return 0
	}
	m := majorVersion.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1])) // digits
	return n
}
