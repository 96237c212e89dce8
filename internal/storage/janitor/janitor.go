// Package janitor removes what runs have left in the daemon: the containers, networks and volumes
// of stages that no longer run here.
//
// The one rule to keep: look first, ask then. The daemon's objects are listed before it is asked
// which runs are alive, and a run is known before anything of it is made; so what is listed and of
// no known run is of one that is over. What carries no label of a runner is never touched.
package janitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// SweepTimeout is how long the removal of what one run left may take.
const SweepTimeout = 2 * time.Minute

// Engine is what the janitor needs of one.
type Engine interface {
	// Remains lists what the daemon has of the runs of the runner of that name.
	Remains(ctx context.Context, runner string) ([]engine.Remains, error)
	// AllRemains lists what the daemon has of the runs of all runners.
	AllRemains(ctx context.Context) ([]engine.Remains, error)
	// Sweep removes what the daemon has of one run.
	Sweep(ctx context.Context, spec string) error
}

// Janitor removes what runs of one runner have left.
type Janitor struct {
	Engine Engine
	// Runner is the name of the runner whose runs these are.
	Runner string
	// Alone says that the daemon is the runner's own, so that runs of other runners are of former
	// lives under other names: a container without a fixed name or a state volume gets a new one
	// each time.
	Alone bool
	// Spare reports whether an owner's runs are left alone all the same; nil spares none.
	Spare func(owner string) bool
	// Runs reports whether the run of that id is alive. It is asked after Engine.Remains has
	// returned, and must know of a run before anything of it is made.
	Runs func(spec string) (bool, error)
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// soon is the first pause between two looks. What a daemon was making for a runner that was killed
// comes to be a little after the runner's next start.
const soon = 15 * time.Second

// Run reaps at once, and then again and again, with pauses that double from 15 s up to the interval
// (0 is never again), until the context ends. What goes wrong is for the operator's log, and for
// the next time.
func (j *Janitor) Run(ctx context.Context, interval time.Duration) {
	for wait := soon; ; wait *= 2 {
		if _, err := j.Reap(ctx); err != nil && ctx.Err() == nil {
			j.log().WithError(err).Error("what builds have left can't all be removed")
		}
		if interval <= 0 {
			return
		}
		wait = min(wait, interval)
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

// Find lists what is left of runs that are over.
func (j *Janitor) Find(ctx context.Context) ([]engine.Remains, error) {
	list := func() ([]engine.Remains, error) { return j.Engine.Remains(ctx, j.Runner) }
	if j.Alone {
		list = func() ([]engine.Remains, error) { return j.Engine.AllRemains(ctx) }
	}
	found, err := list()
	if err != nil {
		return nil, err
	}
	var out []engine.Remains
	for _, r := range found {
		if r.Owner != j.Runner && j.Spare != nil && j.Spare(r.Owner) {
			continue
		}
		alive, err := j.Runs(r.Spec)
		if err != nil {
			return nil, fmt.Errorf("see whether the run %s is alive: %w", r.Spec, err)
		}
		if !alive {
			out = append(out, r)
		}
	}
	return out, nil
}

// Reap removes what is left of runs that are over, and is what it removed. The errors of what stays
// come joined.
func (j *Janitor) Reap(ctx context.Context) ([]engine.Remains, error) {
	found, err := j.Find(ctx)
	if err != nil {
		return nil, err
	}
	var removed []engine.Remains
	var errs []error
	for _, r := range found {
		log := j.log().WithFields(logrus.Fields{"spec": r.Spec, "owner": cmp.Or(r.Owner, j.Runner), "age": Age(r, time.Now())})
		sweepCtx, cancel := context.WithTimeout(ctx, SweepTimeout)
		err := j.Engine.Sweep(sweepCtx, r.Spec)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("remove what the run %s left (%s): %w", r.Spec, r, err))
			continue
		}
		log.Warnf("removed what a build that is over had left: %s", r)
		removed = append(removed, r)
	}
	return removed, errors.Join(errs...)
}

// Age is how old what is left is, in words.
func Age(r engine.Remains, now time.Time) string {
	if r.Created.IsZero() {
		return "unknown"
	}
	return units.HumanDuration(max(now.Sub(r.Created), 0))
}

func (j *Janitor) log() logrus.FieldLogger {
	if j.Log == nil {
		return logrus.StandardLogger()
	}
	return j.Log
}
