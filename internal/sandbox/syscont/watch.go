package syscont

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PlaceError says that the machine around the daemon is broken, so that a new daemon would be no
// better.
type PlaceError struct {
	// What was seen.
	Err error
	// Fix is what the operator can do.
	Fix string
}

// Error names both.
func (e *PlaceError) Error() string { return e.Err.Error() + ": " + e.Fix }

// Unwrap returns what was seen.
func (e *PlaceError) Unwrap() error { return e.Err }

// watch probes a daemon that is up until its process or ctx ends. A daemon that fails a probe isn't
// up any more, so that nobody gives it work, and is again after a probe that passes. One that fails
// for the length of Patience is given up: the error is errSilent, for a restart, or a *PlaceError,
// after which no restart follows.
func (d *Daemon) watch(ctx context.Context, p *process) error {
	var since time.Time
	for {
		select {
		case <-p.dead:
			return errDied
		case <-ctx.Done():
			return nil
		case <-time.After(orDuration(d.ProbeInterval, 10*time.Second)):
		}
		began := time.Now()
		err := d.probe(ctx, p)
		var place *PlaceError
		switch {
		case ctx.Err() != nil || errors.Is(err, errDied):
		case err == nil && since.IsZero():
		case err == nil:
			d.Log.WithField("took", time.Since(since).Round(time.Second)).Info("the Docker daemon works again")
			since = time.Time{}
			d.open()
		case since.IsZero():
			since = began
			d.doubt(err)
		case time.Since(since) < orDuration(d.Patience, time.Minute):
		case errors.As(err, &place):
			return err
		default:
			d.Log.WithError(err).Error("the Docker daemon hangs; killing it")
			return errSilent
		}
	}
}

// probe asks once, and doesn't wait for a daemon that has died.
func (d *Daemon) probe(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, orDuration(d.ProbeTimeout, 15*time.Second))
	defer cancel()
	ask := d.Probe
	if ask == nil {
		ask = d.Ping
	}
	answer := make(chan error, 1)
	go func() { answer <- ask(ctx) }()
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("the Docker daemon doesn't work: %w", err)
		}
		return nil
	case <-p.dead:
		cancel()
		<-answer
		return errDied
	}
}

// doubt shuts the gate of a daemon that has failed a probe.
func (d *Daemon) doubt(err error) {
	d.Log.WithError(err).Error("no new builds are taken until the Docker daemon works again")
	d.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = err
}
