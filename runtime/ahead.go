package runtime

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// fetchers is how many images of a stage are fetched at a time. More share one line to the
// registries.
const fetchers = 3

// ahead fetches the images of a stage's steps while the steps before them run, in the order in
// which the graph needs them.
type ahead struct {
	run *stageRun
	// succeeding ends when no step runs any more that runs in success alone.
	succeeding context.Context //nolint:containedctx // a stage's state, which steps end
	giveUp     context.CancelFunc
	working    sync.WaitGroup
	end        context.CancelFunc

	mu   sync.Mutex
	todo []*node
}

// fetchAhead begins. The caller calls stop, which ends what is under way and waits for that.
func (r *stageRun) fetchAhead(nodes []*node) *ahead {
	a := &ahead{run: r, todo: inOrder(nodes)}
	var ctx context.Context
	ctx, a.end = context.WithCancel(r.ctx)
	a.succeeding, a.giveUp = context.WithCancel(ctx)
	for range min(fetchers, len(a.todo)) {
		a.working.Go(func() {
			for n := a.next(); n != nil && ctx.Err() == nil; n = a.next() {
				a.fetch(ctx, n.step)
			}
		})
	}
	return a
}

// inOrder are the nodes whose steps may run and need an image, those first that depend on least,
// each image once.
func inOrder(nodes []*node) []*node {
	depth := map[*node]int{}
	var measure func(n *node) int
	measure = func(n *node) int {
		d, known := depth[n]
		if !known {
			for _, dep := range n.deps {
				d = max(d, measure(dep)+1)
			}
			depth[n] = d
		}
		return d
	}
	var out []*node
	for _, n := range nodes {
		measure(n)
		if p := n.step.RunPolicy; p != spec.RunNever && p != spec.RunOnFailure && n.step.Daemon == nil {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, func(a, b *node) int { return depth[a] - depth[b] })
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(n *node) bool {
		again := seen[n.step.Image]
		seen[n.step.Image] = true
		return again
	})
}

// next is the next step that hasn't come to its turn by itself.
func (a *ahead) next() *node {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.todo) > 0 {
		n := a.todo[0]
		a.todo = a.todo[1:]
		if !n.visited.Load() {
			return n
		}
	}
	return nil
}

func (a *ahead) fetch(ctx context.Context, step *spec.Step) {
	r := a.run
	if step.RunPolicy == spec.RunOnSuccess {
		ctx = a.succeeding
	}
	if ctx.Err() != nil {
		return
	}
	err := protect(fmt.Sprintf("fetch the image of step %q", step.Name), func() error { return r.engine.Fetch(ctx, r.spec, step) })
	if err != nil && ctx.Err() == nil {
		r.logPanic(err)
		r.log.WithField("step", step.Name).Debug("an image can't be fetched ahead: " + r.masked(err).Error())
	}
}

// stop ends it.
func (a *ahead) stop() {
	a.end()
	a.giveUp()
	a.working.Wait()
}
