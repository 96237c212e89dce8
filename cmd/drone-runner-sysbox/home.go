package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	docker "github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/reserved"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// home is where the builds run: a Docker daemon and, unless DRONE_RUNNER_SANDBOX=none, the proven system container around it.
type home struct {
	docker *docker.Client
	// system is nil for SandboxNone; mu guards it, as /readyz may ask before open is done.
	mu     sync.Mutex
	system *syscont.System
	stop   context.CancelFunc
	// lost is closed when the system container has ended; why is valid then.
	lost chan struct{}
	why  error
}

// errToldToEnd is why open gave up when its context ended, and nothing else was wrong.
var errToldToEnd = errors.New("the runner was told to end while Docker was on its way up")

// open boots the system container and waits until its daemon answers and is proven, or connects to the Docker that is there. Its error leaves nothing to close. ended is called when
// the system container has ended, asked to or not: a daemon that is started again and can't be proven again ends it.
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
		RegistryMirrors:    cfg.Docker.RegistryMirrors,
		InsecureRegistries: cfg.Docker.InsecureRegistries,
		Avoid:              needed,
		Log:                log,
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.system, h.docker = system, system.Client
	h.mu.Unlock()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	go func() {
		h.why = system.Run(running)
		// Who sees the effect of ended finds the reason.
		close(h.lost)
		ended()
	}()
	if err := system.Daemon.Ready(ctx); err != nil {
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
	system.Client.NegotiateAPIVersion(ctx)
	log.WithField("sandbox", cfg.Runner.Sandbox).Info("the Docker daemon is proven to be in here")
	return nil
}

// addresses are those of the Drone server and of what else the configuration names. One that can't be
// looked up isn't waited for: the server may well start after its runners.
func addresses(ctx context.Context, cfg *config.Config) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range reserved.Addresses(wiring{cfg: cfg}.hosts())(ctx) {
		out = append(out, r.Addresses)
	}
	return out
}

// close stops the daemon, if it is ours, and waits for its end. The error is why it ended before.
func (h *home) close() error {
	if h.system == nil {
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
	if h.system == nil {
		return nil
	}
	return h.system.Daemon.Stopped()
}

// wait returns when the daemon is there and works. The error is the context's, or why it never will.
func (h *home) wait(ctx context.Context) error {
	if h.system == nil {
		return nil
	}
	return h.system.Daemon.Ready(ctx)
}

// deaths counts how often the daemon has died or was killed because it hung.
func (h *home) deaths() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.system == nil {
		return 0
	}
	n, _ := h.system.Daemon.Deaths()
	return n
}

// watch is the engine, whose errors say that the daemon died if that is what happened.
func (h *home) watch(e runtime.Engine) runtime.Engine {
	if h.system == nil {
		return e
	}
	return &watchedEngine{engine: e, daemon: h.system.Daemon}
}

// watchedEngine tells the death of the daemon from whatever else may be wrong. A daemon that comes back within moments marks the containers of its former life as ended
// by SIGKILL, which is not how the step ended.
type watchedEngine struct {
	engine runtime.Engine
	daemon *syscont.Daemon
}

// Setup waits for a daemon that is on its way back up.
func (w *watchedEngine) Setup(ctx context.Context, s *spec.Spec) error {
	if err := w.daemon.Ready(ctx); err != nil {
		return err
	}
	return w.during(func() error { return w.engine.Setup(ctx, s) })
}

// Fetch is the engine's, once the daemon is up.
func (w *watchedEngine) Fetch(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	if err := w.daemon.Ready(ctx); err != nil {
		return err
	}
	return w.engine.Fetch(ctx, s, step)
}

// Prepare is the engine's.
func (w *watchedEngine) Prepare(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (c spec.Container, err error) {
	err = w.during(func() (err error) {
		c, err = w.engine.Prepare(ctx, s, step, output)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &watchedContainer{Container: c, engine: w}, nil
}

// Destroy waits for a daemon that is on its way back up: what its former life left is still to be removed.
func (w *watchedEngine) Destroy(ctx context.Context, s *spec.Spec) error {
	for {
		if err := w.daemon.Ready(ctx); err != nil {
			return fmt.Errorf("remove what the run %s left: %w", s.ID, err)
		}
		before, _ := w.daemon.Deaths()
		err := w.engine.Destroy(ctx, s)
		if after, _ := w.daemon.Deaths(); err == nil || after == before {
			return err
		}
	}
}

// during calls f, and is how the daemon died if it did so meanwhile.
func (w *watchedEngine) during(f func() error) error {
	before, _ := w.daemon.Deaths()
	err := f()
	if after, how := w.daemon.Deaths(); after != before {
		return how
	}
	return err
}

// watchedContainer is a container that may lose its daemon.
type watchedContainer struct {
	spec.Container
	engine *watchedEngine
}

// Run is the container's. An end that came with the death of the daemon is an error: nobody knows how the process would have ended.
func (c *watchedContainer) Run(ctx context.Context, output io.Writer, started func()) (exit spec.Exit, err error) {
	err = c.engine.during(func() (err error) {
		exit, err = c.Container.Run(ctx, output, started)
		return err
	})
	return exit, err
}
