// Package inprocess is the runner's side of a guard that runs in the runner's own process: it
// answers the guard's questions from the cache's records.
//
// The one rule to keep: nothing passes here but the plain data of guard.Runner, so that the same
// answers can be given over a pipe.
package inprocess

import (
	"context"
	"io"
	"sync"

	"github.com/docker/docker/api/types/registry"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// Options are what answers are made of.
type Options struct {
	// Access says who may have which image; nil lets everybody have all.
	Access *cache.Access
	// Ledger takes which images are used; nil forgets it.
	Ledger *cache.Ledger
	// Reserved returns which addresses no network of a stage may cover; nil is none.
	Reserved func(context.Context) []guard.Reservation
	// Log takes the guard's lines; nil discards them.
	Log logrus.FieldLogger
}

// Runner answers one guard.
type Runner struct {
	o Options

	mu sync.Mutex
	// holds are those of the builds that run.
	holds []func()
}

var _ guard.Runner = (*Runner)(nil)

// New returns a Runner. Close it when its guard is closed.
func New(o Options) *Runner {
	if o.Log == nil {
		l := logrus.New()
		l.Out = io.Discard
		o.Log = l
	}
	return &Runner{o: o}
}

// Close ends what the guard has begun and not ended.
func (r *Runner) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, release := range r.holds {
		release()
	}
	r.holds = nil
}

// MayHave reports whether the stage may have an image.
func (r *Runner) MayHave(ctx context.Context, image guard.Image, shown []registry.AuthConfig) (bool, error) {
	return r.o.Access.May(ctx, cache.Image(image), shown...)
}

// KnownToHave is MayHave for each image, by what is known.
func (r *Runner) KnownToHave(_ context.Context, images []guard.Image, shown []registry.AuthConfig) ([]bool, error) {
	out := make([]bool, len(images))
	for i, image := range images {
		out[i] = r.o.Access.Known(cache.Image(image), shown...)
	}
	return out, nil
}

// Pulled notes that an image has been pulled with these credentials.
func (r *Runner) Pulled(_ context.Context, image guard.Image, with registry.AuthConfig) {
	r.o.Access.Pulled(cache.Image(image), with)
}

// AboutToUse notes that an image is about to be used.
func (r *Runner) AboutToUse(_ context.Context, imageID string) { r.o.Ledger.AboutToUse(imageID) }

// BuilderBusy notes that a build with the classic builder begins or ends.
func (r *Runner) BuilderBusy(_ context.Context, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if busy {
		r.holds = append(r.holds, r.o.Ledger.Hold(cache.Builder))
		return
	}
	if last := len(r.holds) - 1; last >= 0 {
		r.holds[last]()
		r.holds = r.holds[:last]
	}
}

// Reserved returns which addresses no network of a stage may cover.
func (r *Runner) Reserved(ctx context.Context) ([]guard.Reservation, error) {
	if r.o.Reserved == nil {
		return nil, nil
	}
	return r.o.Reserved(ctx), nil
}

// Log writes a line of the guard's.
func (r *Runner) Log(line guard.Record) {
	fields := logrus.Fields{}
	for k, v := range line.Fields {
		fields[k] = v
	}
	if line.Error != "" {
		fields[logrus.ErrorKey] = line.Error
	}
	out := r.o.Log.WithFields(fields)
	if line.Level == guard.Warn {
		out.Warn(line.Message)
		return
	}
	out.Debug(line.Message)
}
