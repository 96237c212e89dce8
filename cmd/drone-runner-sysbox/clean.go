package main

import (
	"context"
	"strings"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/local"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// clean removes what interrupted stages left and, when it has returned, goes on in the background:
// the server is told of those stages, and the reaper looks around at each interval. ctx bounds the
// former. The function that it returns ends the latter and waits for it; it may be called again.
func (w wiring) clean(ctx context.Context, c *rpc.Client, e *engine.Docker) (end func()) {
	recovery := &runtime.Recovery{Journal: w.journal, Client: c, Ended: w.metrics.BuildEnded, Sweep: e.Sweep, Logs: w.logs(), Log: w.log}
	reaper := w.reaper(e)
	recovery.SweepAll(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { recovery.Run(background) })
	running.Go(func() { reaper.Run(background, w.cfg.Runner.ReapInterval) })
	return func() {
		stop()
		running.Wait()
	}
}

// reaper removes what builds that are over have left in the daemon of an engine.
func (w wiring) reaper(e *engine.Docker) *janitor.Janitor {
	return &janitor.Janitor{
		Engine: e,
		Runner: w.cfg.Runner.Name,
		// This process has started the daemon, and proven it, before anything is cleaned.
		Alone: w.cfg.Runner.Sandbox != sandbox.None,
		Spare: func(owner string) bool { return strings.HasPrefix(owner, local.OwnerPrefix) },
		Runs:  func(spec string) (bool, error) { return w.journal.Runs(spec), nil },
		Log:   w.log,
	}
}
