package main

import (
	"context"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/local"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// account is what a call of exec writes down of its runs, for the next one to clean up after it
// should it be killed. Where nothing can be written it does without: a developer's build doesn't
// fail for that.
type account struct {
	execs *local.Runs // nil if there is no folder
	log   logrus.FieldLogger
}

func openAccount(log logrus.FieldLogger) *account {
	e, err := local.OpenRuns(hostname())
	if err != nil {
		log.WithError(err).Warn("should this be killed, nobody removes what it leaves in Docker")
	}
	return &account{execs: e, log: log}
}

// owner is the name that everything carries in the daemon: not the name of a runner's, whose reaper
// would take it for what a former life of its own has left.
func (a *account) owner() string {
	if a.execs == nil {
		return local.OwnerPrefix + hostname()
	}
	return a.execs.Owner()
}

// sweep removes what killed calls have left. What it can't remove is left to the next one.
func (a *account) sweep(ctx context.Context, e *engine.Docker) {
	if a.execs == nil {
		return
	}
	j := &janitor.Janitor{Engine: e, Runner: a.execs.Owner(), Runs: a.execs.Running, Log: a.log}
	_, err := j.Reap(ctx)
	if err == nil {
		err = a.execs.Forget()
	}
	if err != nil && ctx.Err() == nil {
		a.log.WithError(err).Warn("what a call that was killed has left can't all be removed")
	}
}

// watch is the engine, whose runs are written down from before their setup until after their end.
func (a *account) watch(e runtime.Engine) runtime.Engine {
	if a.execs == nil {
		return e
	}
	return &accounted{Engine: e, account: a, leave: map[string]func(){}}
}

// accounted is an engine whose runs are written down.
type accounted struct {
	runtime.Engine
	account *account

	mu    sync.Mutex
	leave map[string]func()
}

// Setup is the engine's.
func (a *accounted) Setup(ctx context.Context, s *spec.Spec) error {
	leave, err := a.account.execs.Enter(s.ID)
	if err != nil {
		// The next call of exec would take it for dead.
		return err
	}
	a.mu.Lock()
	a.leave[s.ID] = leave
	a.mu.Unlock()
	return a.Engine.Setup(ctx, s)
}

// Destroy is the engine's. A run that can't be destroyed is left to the next call.
func (a *accounted) Destroy(ctx context.Context, s *spec.Spec) error {
	err := a.Engine.Destroy(ctx, s)
	a.mu.Lock()
	defer a.mu.Unlock()
	if leave := a.leave[s.ID]; leave != nil {
		leave()
		delete(a.leave, s.ID)
	}
	return err
}
