package syscont

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
	// DataRoot is the daemon's data folder, a volume: /var/lib/docker.
	DataRoot string
	// RunDir takes the configuration that the daemon is started with: /run/drone-runner-sysbox.
	RunDir string
	// OperatorConfig is the daemon.json that is merged over ours, if it exists:
	// /etc/docker/daemon.json.
	OperatorConfig string
	// Socket is where the daemon listens: /var/run/docker.sock.
	Socket string
	// RegistryMirrors and InsecureRegistries as in DaemonSettings.
	RegistryMirrors, InsecureRegistries []string
	// Avoid are addresses that the runner or its builds talk to, beside the networks and resolvers
	// that Boot finds: no network of a stage may hide them.
	Avoid []netip.Prefix
	Log   logrus.FieldLogger
}

// System is the booted system container.
type System struct {
	// Daemon is its Docker daemon.
	Daemon *Daemon
	// Uplink is its way out.
	Uplink uplink.Uplink
	// Client talks to the daemon. It belongs to the System, which closes it at the end of Run.
	Client *client.Client

	options Options
	lock    *Lock
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

// Boot looks at the place, takes the lock of the data folder, and writes the daemon's
// configuration. It starts nothing: Run does. The order matters: a daemon that is started in the
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
	lock, err := LockData(o.DataRoot)
	if err != nil {
		return nil, err
	}
	s := &System{options: o, lock: lock}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *System) prepare() error {
	o := s.options
	var err error
	if s.Uplink, err = uplink.Find(); err != nil {
		return err
	}
	operator, err := os.ReadFile(o.OperatorConfig)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the operator's configuration of the Docker daemon: %w", err)
	}
	config, err := DaemonConfig(DaemonSettings{
		DataRoot: o.DataRoot, Socket: o.Socket,
		MTU: s.Uplink.MTU, NetworkMTU: dockerdMajor() >= 24,
		RegistryMirrors: o.RegistryMirrors, InsecureRegistries: o.InsecureRegistries,
		Taken: slices.Concat(s.Uplink.Taken, o.Avoid), DNSOptions: s.Uplink.Resolver.DaemonOptions(),
	}, operator)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.RunDir, 0o711); err != nil {
		return fmt.Errorf("make the runner's own folder: %w", err)
	}
	file := filepath.Join(o.RunDir, "daemon.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return fmt.Errorf("write the configuration of the Docker daemon: %w", err)
	}
	if s.Client, err = client.NewClientWithOpts(client.WithHost("unix://"+o.Socket), client.WithAPIVersionNegotiation()); err != nil {
		return fmt.Errorf("make a client of the Docker daemon: %w", err)
	}
	s.Daemon = &Daemon{
		Args: []string{"--config-file=" + file},
		PidFiles: map[string]string{
			"/var/run/docker.pid": "dockerd",
			// A containerd that dockerd believes to be alive is waited for in vain.
			"/var/run/docker/containerd/containerd.pid": "containerd",
		},
		Networks: filepath.Join(o.DataRoot, "network", "files", "local-kv.db"),
		Ping:     func(ctx context.Context) error { _, err := s.Client.Ping(ctx); return err },
		Probe:    s.probe(),
		OnUp:     s.prove,
		Log:      o.Log,
	}
	return nil
}

// Run keeps the daemon alive, proves it anew after each start, and lets go of the data folder when
// ctx has ended and the daemon with it. The error is a RefusedError when the proof fails.
func (s *System) Run(ctx context.Context) error {
	return errors.Join(s.Daemon.Run(ctx), s.Client.Close(), s.lock.Close())
}

// probe asks the daemon and then the place. Listing containers takes the daemon's locks, which a
// ping doesn't.
func (s *System) probe() func(context.Context) error {
	place := newPlace(s.options.RunDir, s.options.Sandbox == sandbox.Sysbox)
	return func(ctx context.Context) error {
		if _, err := s.Client.ContainerList(ctx, container.ListOptions{Limit: 1}); err != nil {
			return err
		}
		return place.check(ctx)
	}
}

// prove refuses a daemon that isn't where the sandbox insists that it is.
func (s *System) prove(ctx context.Context, pid int) error {
	checks := Judge(s.options.Sandbox, Prover{Host: "unix://" + s.options.Socket, Child: pid, Info: InfoOf(s.Client)}.Prove(ctx))
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
