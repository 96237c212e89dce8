package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	docker "github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/reserved"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// dataRoot is the volume for the data of Docker daemons, and runRoot the folder for their sockets.
const (
	dataRoot     = "/var/lib/docker"
	runRoot      = "/run/drone-runner-sysbox"
	customSocket = "/var/run/docker.sock"
)

// cellsDir has the data of each cell.
var cellsDir = filepath.Join(dataRoot, "cells")

// home is where the builds run: a Docker daemon and, unless DRONE_RUNNER_SANDBOX=none, the cells in
// the proven system container around it.
type home struct {
	// docker is the daemon of the shared cell, or the machine's.
	docker *docker.Client
	// cells is nil for sandbox.None; mu guards it, as /readyz may ask before open is done.
	mu    sync.Mutex
	cells *cell.Manager
	stop  context.CancelFunc
	// lost is closed when the cells have ended; why is valid then.
	lost chan struct{}
	why  error
}

// errToldToEnd is why open gave up when its context ended, and nothing else was wrong.
var errToldToEnd = errors.New("the runner was told to end while Docker was on its way up")

// open boots the system container and waits until its shared cell answers and is proven, or
// connects to the Docker that is there. Its error leaves nothing to close. ended is called when the
// cells have ended, asked to or not: a shared cell whose daemon is started again and can't be
// proven again ends them.
func (h *home) open(ctx context.Context, cfg *config.Config, log logrus.FieldLogger, ended func()) (err error) {
	h.lost = make(chan struct{})
	if cfg.Runner.Sandbox == sandbox.None {
		log.Warn("DRONE_RUNNER_SANDBOX=none: builds run in a Docker daemon that nothing keeps apart from this machine. This is for development")
		if h.docker, err = engine.Connect(ctx); err != nil && ctx.Err() != nil {
			return errToldToEnd
		}
		return err
	}
	needed := addresses(ctx, cfg)
	system, err := syscont.Boot(syscont.Options{
		Sandbox:            cfg.Runner.Sandbox,
		DataRoot:           dataRoot,
		RunDir:             runRoot,
		Socket:             customSocket,
		RegistryMirrors:    cfg.Docker.RegistryMirrors,
		InsecureRegistries: cfg.Docker.InsecureRegistries,
		Avoid:              needed,
		Log:                log,
	})
	if err != nil {
		return err
	}
	cells, err := newCells(cfg, system, log)
	if err != nil {
		return errors.Join(err, system.Close())
	}
	h.mu.Lock()
	h.cells, h.docker = cells, cells.Shared().Client
	h.mu.Unlock()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	go func() {
		h.why = errors.Join(cells.Run(running), system.Close())
		// Who sees the effect of ended finds the reason.
		close(h.lost)
		ended()
	}()
	if err := cells.Shared().Daemon.Ready(ctx); err != nil {
		switch closeErr := h.close(); {
		case closeErr != nil:
			return closeErr // what Ready said, and more
		case ctx.Err() != nil:
			return errToldToEnd
		}
		return err
	}
	if err := fence.Block(cfg.Runner.Block, system.Uplink.Resolver.Nameservers, needed); err != nil {
		log.WithError(err).Warn("builds reach the networks of DRONE_RUNNER_BLOCK")
	}
	// Before there are several who use the client: it would read what it writes.
	h.docker.NegotiateAPIVersion(ctx)
	log.WithField("sandbox", cfg.Runner.Sandbox).Info("the Docker daemon is proven to be in here")
	return nil
}

// addresses are those of the Drone server and of what else the configuration names. One that can't
// be looked up isn't waited for: the server may well start after its runners.
func addresses(ctx context.Context, cfg *config.Config) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range reserved.Addresses(wiring{cfg: cfg}.hosts())(ctx) {
		out = append(out, r.Addresses)
	}
	return out
}

// newCells prepares the cells of a booted system container.
func newCells(cfg *config.Config, system *syscont.System, log logrus.FieldLogger) (*cell.Manager, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which cells begin with: %w", err)
	}
	if err := cell.AdoptData(dataRoot, cellsDir, syscont.LockName); err != nil {
		return nil, err
	}
	return cell.NewManager(cell.ManagerOptions{
		Program: program,
		Run:     runRoot,
		Data:    cellsDir,
		Environ: cellEnviron(os.Environ()),
		Uplink:  system.Uplink,
		Config: func(data, socket string, link cell.Link) ([]byte, error) {
			return system.DaemonConfig(data, socket, link.Prefix())
		},
		Binds: func(domain string) []string { return cellBinds(cfg, domain) },
		Prove: func(ctx context.Context, c *cell.Cell, pid int) error {
			if err := system.Prove(ctx, c.Socket(), pid, c.Client); err != nil || c.Name() != cell.SharedName {
				return err
			}
			return link(c.Socket(), customSocket)
		},
		Probe: func(ctx context.Context, c *cell.Cell) error { return system.Probe(ctx, c.Client) },
		Warm:  cfg.Runner.CellsWarm,
		Idle:  cfg.Runner.CellsIdle,
		Log:   log,
	})
}

// link makes name a symbolic link to target, in place of what was there: it is where docker, and
// this program's other commands, look for a daemon.
func link(target, name string) error {
	if now, err := os.Readlink(name); err == nil && now == target {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the Docker daemon's socket in its usual place: %w", err)
	}
	if err := os.Symlink(target, name); err != nil {
		return fmt.Errorf("put the Docker daemon's socket in its usual place: %w", err)
	}
	return nil
}

// cellEnviron is what daemons get of this process's environment: how to find programs, proxies and
// certificates. Whatever else is in there, secrets for one, stays here.
func cellEnviron(environ []string) []string {
	var out []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		switch strings.ToUpper(name) {
		case "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ":
			out = append(out, pair)
		}
	}
	return append(out, "HOME=/root")
}

// cellBinds are the operator's folders that the pipelines of a domain may have.
func cellBinds(cfg *config.Config, domain string) []string {
	var out []string
	for _, v := range cfg.Runner.Volumes {
		if filepath.IsAbs(v.Source) && resource.ClassifyHostPath(v.Source) != resource.PathSocket {
			out = append(out, v.Source)
		}
	}
	if sandbox.Trusted(domain) {
		out = append(out, cfg.Runner.HostPaths...)
	}
	return out
}

// close stops the daemons, if they are ours, and waits for their end. The error is why they ended
// before.
func (h *home) close() error {
	if h.cells == nil {
		return h.docker.Close()
	}
	h.stop()
	<-h.lost
	return h.why
}

// down is why the daemon isn't there, or nil.
func (h *home) down() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cells == nil {
		return nil
	}
	return h.cells.Shared().Daemon.Stopped()
}

// wait returns when the daemon is there and works. The error is the context's, or why it never
// will.
func (h *home) wait(ctx context.Context) error {
	if h.cells == nil {
		return nil
	}
	return h.cells.Shared().Daemon.Ready(ctx)
}

// deaths counts how often the daemon has died or was killed because it hung.
func (h *home) deaths() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cells == nil {
		return 0
	}
	n, _ := h.cells.Shared().Daemon.Deaths()
	return n
}
