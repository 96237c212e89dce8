package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// preloadPause is the longest pause between two attempts to preload an image.
const preloadPause = 10 * time.Minute

// inCell is the wiring of a cell's daemon, with a ledger of its own; for the shared one, which has
// the runner's, see daemon.
func (w wiring) inCell(ctx context.Context, c *cell.Cell) (wiring, error) {
	w.site, w.docker, w.cells = siteOf(c), c.Client, nil
	state := cellState(w.cfg, c.Name())
	if err := os.MkdirAll(state, 0o700); err != nil {
		return w, fmt.Errorf("make the folder for what is known of a cell's cache: %w", err)
	}
	w.ledger = cache.Open(state, w.log)
	// Before there are several who use the client: it would read what it writes.
	w.docker.NegotiateAPIVersion(ctx)
	var err error
	if w.access, err = w.newAccess(ctx); err == nil {
		w.budget, err = w.newBudget(ctx)
	}
	return w, err
}

// openCell is the engine of a cell that has just been started, and what looks after it until end is
// called. What a former life of the runner left in it is removed first.
func (w wiring) openCell(ctx context.Context, c *cell.Cell) (e runtime.Engine, end func(), err error) {
	in, err := w.inCell(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	docker := in.engine()
	reaper := in.reaper(docker)
	if _, err := reaper.Reap(ctx); err != nil {
		w.log.WithError(err).WithField("cell", c.Name()).Warn("what builds have left in a cell can't all be removed")
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { reaper.Run(background, w.cfg.Runner.ReapInterval) })
	running.Go(func() { in.ledger.Run(background) })
	if w.cfg.Cache.High != (config.Mark{}) {
		running.Go(func() { in.budget.Run(background) })
	}
	return &watchedEngine{engine: docker, daemon: c.Daemon}, func() {
		stop()
		running.Wait()
	}, nil
}

// keep looks after the cache in the background: what is known of it is written down, and the images
// that the operator wants there are fetched. The function that it returns ends that and waits for
// it; it may be called again.
func (w wiring) keep(ctx context.Context, e *engine.Docker) (end func()) {
	fetching, stopFetching := context.WithCancel(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { w.ledger.Run(background) })
	running.Go(func() { w.preload(fetching, e) })
	if w.cfg.Cache.High != (config.Mark{}) || w.cfg.Cache.Size > 0 {
		running.Go(func() { w.budget.Run(background) })
	}
	return func() {
		stopFetching()
		stop()
		running.Wait()
	}
}

// containerdStore is how a daemon's Info tells that containerd keeps its images
// (https://docs.docker.com/engine/storage/containerd/).
var containerdStore = [2]string{"driver-type", "io.containerd.snapshotter.v1"}

// newAccess says who may have which image. In the system container the daemon keeps images itself;
// containerd, which one elsewhere may leave them to, gives those that were built there a digest
// like those that were pulled, so that nobody can tell whom to ask about them.
func (w wiring) newAccess(ctx context.Context) (*cache.Access, error) {
	info, err := w.docker.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the docker daemon how it keeps images: %w", err)
	}
	if slices.Contains(info.DriverStatus, containerdStore) {
		w.log.Warn("this Docker daemon keeps its images with containerd: private images that one build has pulled are there for all. " +
			`{"features": {"containerd-snapshotter": false}} in its daemon.json changes that`)
		return nil, nil
	}
	return cache.NewAccess(w.docker, w.ledger), nil
}

// newBudget is the one of the daemon's disk.
func (w wiring) newBudget(ctx context.Context) (*janitor.Budget, error) {
	disk, err := janitor.FindDisk(ctx, w.docker)
	if err != nil {
		return nil, err
	}
	c := w.cfg.Cache
	if disk.Path == "" && c.High.Percent > 0 {
		w.log.Warnf("DRONE_RUNNER_CACHE_HIGH=%s has no effect: the disk of a Docker daemon elsewhere has no known size; write a number of bytes, such as 200GB", c.High)
	}
	return janitor.NewBudget(janitor.BudgetOptions{
		Docker: w.docker,
		Disk:   disk,
		High:   janitor.Mark(c.High),
		Low:    janitor.Mark(c.Low),
		Limit:  int64(c.Size),
		Keep:   c.Keeps,
		Evict:  w.evict(),
		Ledger: w.ledger,
		Removed: func(kind janitor.Kind, bytes int64) {
			w.metrics.Removed(string(kind), bytes)
		},
		Log: w.log,
	}), nil
}

// evict removes the data of a cell that doesn't run; nil where there are no cells.
func (w wiring) evict() func(time.Time) (janitor.Evicted, error) {
	if w.cells == nil {
		return nil
	}
	return func(before time.Time) (janitor.Evicted, error) {
		gone, ok, err := w.cells.Evict(before)
		if !ok {
			return janitor.Evicted{}, err
		}
		return janitor.Evicted{Name: cmp.Or(gone.Domain, gone.Name), Used: gone.Used}, err
	}
}

// makeRoom is what the engine calls when the disk is full; nil if the operator wants nothing
// removed.
func (w wiring) makeRoom() func(context.Context) error {
	if w.budget == nil || w.cfg.Cache.High == (config.Mark{}) {
		return nil
	}
	return w.budget.MakeRoom
}

// preload fetches images one after the other, each until it is there: a registry may well come up
// after its runners.
func (w wiring) preload(ctx context.Context, e *engine.Docker) {
	pending := w.cfg.Cache.PreloadImages
	pauses := pause.Growing(10*time.Second, preloadPause)
	for len(pending) > 0 {
		var failed []string
		for _, image := range pending {
			log := w.log.WithField("image", image)
			began := time.Now()
			if err := w.fetch(ctx, e, image); err != nil {
				if ctx.Err() != nil {
					return
				}
				log.WithError(err).Error("an image of DRONE_RUNNER_PRELOAD_IMAGES can't be preloaded; it is tried again")
				failed = append(failed, image)
				continue
			}
			log.WithField("took", time.Since(began).Round(time.Millisecond)).Info("preloaded an image")
		}
		pending = failed
		if len(pending) == 0 {
			return
		}
		if pause.For(ctx, pauses.NextBackOff()) != nil {
			return
		}
	}
}

// fetch pulls one image with the operator's credentials.
func (w wiring) fetch(ctx context.Context, e *engine.Docker, image string) error {
	auth, err := compiler.OperatorAuth(ctx, w.cfg.Docker.Config, image)
	if err != nil {
		return err
	}
	return e.Preload(ctx, image, auth, func(line string) { w.log.WithField("image", image).Debug(line) })
}
