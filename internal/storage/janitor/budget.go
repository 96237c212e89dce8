package janitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// Kind of what is removed to make room.
type Kind string

// The kinds, in the order in which they go: cells that have been unused for long first, and others
// that don't run last.
const (
	KindCell       Kind = "cell"
	KindImage      Kind = "image"
	KindBuildCache Kind = "build-cache"
	KindVolume     Kind = "volume"
)

const (
	// watchInterval is how often a disk is measured that can be seen, askInterval one of which the
	// daemon has to tell.
	watchInterval = 3 * time.Second
	askInterval   = time.Minute
	// vainPause is how long it waits after a clean-up that didn't reach the low mark: what fills
	// the disk isn't the cache.
	vainPause = time.Minute
	// retainInterval is how often what the ledger knows is compared with what is there.
	retainInterval = time.Hour
	// sizeInterval is how often the cache itself is measured, which costs the daemon time.
	sizeInterval = time.Minute
	// recently is how long ago something was used that stays, unless Recently says otherwise.
	recently = time.Minute
	// vain is how many removals in a row may free next to nothing before a clean-up ends.
	vain = 8
	// volumeIdle is how long nobody has used a volume that goes to make room, unless VolumeIdle
	// says otherwise.
	volumeIdle = 24 * time.Hour
)

// Budget keeps the cache of a Docker daemon, its images, build cache and persistent volumes, from
// filling its disk. When the disk is fuller than High, what hasn't been used for longest goes until
// it is as empty as Low.
//
// What other things on the same disk take is left out of account: the cache isn't emptied for a
// mark that would not be reached without a cache. Limit bounds what the cache itself takes.
//
// Never removed is what a container or a build uses or is about to, and what the operator wants
// kept. Create it with NewBudget. It may be used concurrently.
type Budget struct {
	o BudgetOptions
	// working has room for the one that cleans up.
	working chan struct{}
	// ended is when the last clean-up ended; the holder of working may read it.
	ended time.Time
	// measured is when the size of the cache was last compared with the limit.
	measured time.Time
}

// BudgetOptions of a Budget. Docker and Disk are required.
type BudgetOptions struct {
	Docker client.APIClient
	Disk   Disk
	// High is the mark that starts a clean-up by itself, Low where one ends. No High: one that is
	// asked for alone. Low counts as High if it's none, or above it.
	High, Low Mark
	// Limit is how many bytes the cache itself may take; 0 is no limit.
	Limit int64
	// Recently is how long ago something was used that stays in any case, or goes last where a
	// build has found the disk full; a minute by default, and none if it's negative.
	Recently time.Duration
	// Keep reports whether an image of that name ("golang:1.26",
	// "registry.example.com/team/tools@sha256:…") or the volume of that path ("/cache/npm") stays
	// in any case. nil keeps none.
	Keep func(name string) bool
	// Evict removes the data of the cell that has been unused for longest, before a moment at
	// least, and that doesn't run; nothing is the zero Evicted. nil has no cells.
	Evict func(before time.Time) (Evicted, error)
	// Ledger knows when what is there was last used, and what is about to be.
	Ledger *cache.Ledger
	// VolumeIdle is how long nobody has used a persistent volume that goes; 24 h by default.
	VolumeIdle time.Duration
	// Removed is called for each thing that went, with its size in bytes; nil is not called.
	Removed func(kind Kind, bytes int64)
	// Log is the operator's; nil is logrus's standard logger.
	Log logrus.FieldLogger
}

// Evicted is a cell whose data is gone.
type Evicted struct {
	Name string
	// Used is when it was last used, zero if that isn't known.
	Used time.Time
}

// NewBudget makes a budget.
func NewBudget(o BudgetOptions) *Budget {
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	if o.Keep == nil {
		o.Keep = func(string) bool { return false }
	}
	if o.Removed == nil {
		o.Removed = func(Kind, int64) {}
	}
	if o.Recently == 0 {
		o.Recently = recently
	}
	if o.VolumeIdle <= 0 {
		o.VolumeIdle = volumeIdle
	}
	return &Budget{o: o, working: make(chan struct{}, 1)}
}

// ErrNoRoom says that all that may go has gone.
var ErrNoRoom = errors.New("there is nothing left in the cache that could make room: what is on the disk is in use, pinned, or not the cache's")

// errOthers says that the cache isn't what fills the disk.
var errOthers = errors.New("the disk is filled by something else than the cache, which stays: make room there, raise DRONE_RUNNER_CACHE_HIGH, or bound the cache by DRONE_RUNNER_CACHE_SIZE instead")

// Run watches the disk until ctx ends: every few seconds where it can be seen, so that a build
// which fills it finds room before it fails. What goes wrong is for the operator's log, and for the
// next time.
func (b *Budget) Run(ctx context.Context) {
	interval := watchInterval
	if b.o.Disk.Path == "" {
		interval = askInterval
	}
	var retained time.Time
	told := false
	for ctx.Err() == nil {
		if time.Since(retained) >= retainInterval {
			retained = time.Now()
			if err := b.retain(ctx); err != nil && ctx.Err() == nil {
				b.o.Log.WithError(err).Warn("what is known of the cache can't be compared with what is there")
			}
		}
		err := b.look(ctx)
		if err != nil && ctx.Err() == nil && !told {
			b.o.Log.WithError(err).Warn("the disk of the docker daemon is fuller than DRONE_RUNNER_CACHE_HIGH allows, and can't be emptied")
		}
		told = err != nil
		wait := interval
		if err != nil {
			wait = max(interval, vainPause)
		}
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

// look cleans up if the disk is fuller than the high mark, or the cache larger than its limit.
func (b *Budget) look(ctx context.Context) error {
	usage, err := b.o.Disk.Usage(ctx)
	if err != nil {
		return err
	}
	high := b.o.High.On(usage.Size)
	full := high > 0 && usage.Used > high
	if !full && (b.o.Limit <= 0 || time.Since(b.measured) < sizeInterval) {
		return nil
	}
	size, err := b.o.Disk.Cache(ctx)
	if err != nil {
		return err
	}
	b.measured = time.Now()
	switch {
	case full:
	case size > b.o.Limit:
		return b.reduce(ctx, size)
	default:
		return nil
	}
	others := max(0, usage.Used-size)
	if others >= high {
		return errOthers
	}
	c, err := b.clean(ctx, false, func(usage Usage) (int64, bool) {
		// Where the low mark is out of reach, half of the way to it is.
		return max(b.low(usage), others+(high-others)/2), usage.Used > high
	})
	if err == nil && c != nil && !c.enough() {
		err = ErrNoRoom
	}
	return err
}

// reduce removes what the cache has above its limit, and a fifth of that limit more.
func (b *Budget) reduce(ctx context.Context, size int64) error {
	excess := size - b.o.Limit/5*4
	c, err := b.clean(ctx, false, func(usage Usage) (int64, bool) { return usage.Used - excess, true })
	if err == nil && c != nil && !c.enough() {
		err = ErrNoRoom
	}
	return err
}

// MakeRoom cleans up at once, since a build has found the disk full: down to the low mark, or as
// far as possible if it's emptier already. Who asks while a clean-up is under way waits for its
// end, which is all that it needs. The error is ErrNoRoom if nothing could go.
func (b *Budget) MakeRoom(ctx context.Context) error {
	asked := time.Now()
	goal := func(usage Usage) (int64, bool) {
		if b.ended.After(asked) {
			return 0, false
		}
		if low := b.low(usage); usage.Used > low {
			return low, true
		}
		return 0, true
	}
	c, err := b.clean(ctx, false, goal)
	if err == nil && c != nil && c.removed == 0 {
		// A build that fails costs more than an image that was used a moment ago.
		asked = time.Now()
		c, err = b.clean(ctx, true, goal)
	}
	if err == nil && c != nil && c.removed == 0 {
		err = ErrNoRoom
	}
	return err
}

// low is the low mark in bytes.
func (b *Budget) low(usage Usage) int64 {
	low, high := b.o.Low.On(usage.Size), b.o.High.On(usage.Size)
	switch {
	case low <= 0:
		return high
	case high <= 0:
		return low
	}
	return min(low, high)
}

// clean has one at a time clean up until no more than goal's bytes are used, if it says so once
// it's its turn; otherwise the cleaning is nil. all is for what was used recently as well.
func (b *Budget) clean(ctx context.Context, all bool, goal func(Usage) (bytes int64, wanted bool)) (*cleaning, error) {
	select {
	case b.working <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-b.working }()
	before, err := b.o.Disk.Usage(ctx)
	if err != nil {
		return nil, err
	}
	target, wanted := goal(before)
	if !wanted {
		return nil, nil
	}
	c := &cleaning{Budget: b, goal: target, used: before.Used, all: all || b.o.Recently < 0}
	err = c.run(ctx)
	b.ended = time.Now()
	if c.removed > 0 {
		b.o.Log.WithFields(logrus.Fields{
			"objects": c.removed, "before": units.BytesSize(float64(before.Used)), "after": units.BytesSize(float64(c.used)), "goal": units.BytesSize(float64(target)),
		}).Info("made room on the disk of the docker daemon")
	}
	if err != nil {
		return c, fmt.Errorf("make room on the disk of the docker daemon: %w", err)
	}
	return c, nil
}

// cleaning is one clean-up.
type cleaning struct {
	*Budget
	goal    int64 // bytes
	used    int64 // bytes, as last measured
	removed int   // objects
	all     bool
	// useless is how many removals in a row have freed next to nothing.
	useless int
}

// run removes until the goal is reached, kind after kind. What one kind fails of is told after the
// others have been tried.
func (c *cleaning) run(ctx context.Context) error {
	var errs []error
	for _, kind := range []func(context.Context) error{c.idleCells, c.images, c.buildCache, c.volumes, c.cells} {
		if c.over() {
			break
		}
		if err := kind(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *cleaning) enough() bool { return c.used <= c.goal }

// over reports whether the clean-up ends: by its success, or because removing doesn't help.
func (c *cleaning) over() bool { return c.enough() || c.useless >= vain }

// recent reports whether something was used a moment ago.
func (c *cleaning) recent(used time.Time) bool { return !c.all && time.Since(used) < c.o.Recently }

// idleCells removes the data of cells that have been unused for long, cells of all that don't run.
func (c *cleaning) idleCells(ctx context.Context) error {
	return c.evict(ctx, time.Now().Add(-c.o.VolumeIdle))
}

func (c *cleaning) cells(ctx context.Context) error { return c.evict(ctx, time.Now()) }

func (c *cleaning) evict(ctx context.Context, before time.Time) error {
	for c.o.Evict != nil && !c.over() && ctx.Err() == nil {
		used := c.used
		e, err := c.o.Evict(before)
		if err != nil || e == (Evicted{}) {
			return err
		}
		now, err := c.o.Disk.Usage(ctx)
		if err != nil {
			return err
		}
		if err := c.gone(ctx, KindCell, e.Name, max(used-now.Used, 0), e.Used); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// gone accounts for something that was removed, and measures the disk.
func (c *cleaning) gone(ctx context.Context, kind Kind, name string, bytes int64, used time.Time) error {
	c.removed++
	c.o.Removed(kind, bytes)
	last := "unknown"
	if !used.IsZero() {
		last = used.UTC().Format(time.RFC3339)
	}
	c.o.Log.WithFields(logrus.Fields{"kind": kind, "name": name, "size": units.BytesSize(float64(bytes)), "used": last}).Info("removed to make room")
	usage, err := c.o.Disk.Usage(ctx)
	if err != nil {
		return err
	}
	// Layers may be shared with what stays; somebody else may write meanwhile.
	if bytes > 0 && c.used-usage.Used < bytes/20 {
		c.useless++
	} else {
		c.useless = 0
	}
	c.used = usage.Used
	return nil
}
