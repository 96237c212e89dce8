package engine

import (
	"context"
	"sync"
)

// pulls makes equal pulls that are wanted at one time into one. Each caller gets the whole progress
// and keeps its own context; the pull itself is cancelled when the last caller has left.
type pulls struct {
	// pull does the work. It may call say from the goroutine that it was called in.
	pull func(ctx context.Context, p pull, say func(line string)) error

	mu      sync.Mutex
	flights map[pull]*flight
}

// flight is a pull under way.
type flight struct {
	cancel context.CancelFunc
	users  int // guarded by pulls.mu

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed, and replaced, when there are more lines
	done  chan struct{} // closed at the end, after err was set
	err   error
}

// do pulls p, or joins a pull of it, and calls say, in the caller's goroutine, for each line of
// progress.
func (p *pulls) do(ctx context.Context, what pull, say func(line string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := p.join(ctx, what)
	defer p.leave(what, f)
	for shown := 0; ; {
		lines, more := f.since(shown)
		shown += len(lines)
		for _, line := range lines {
			say(line)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		case <-f.done:
			lines, _ := f.since(shown)
			for _, line := range lines {
				say(line)
			}
			return f.err
		}
	}
}

func (p *pulls) join(ctx context.Context, what pull) *flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[what]; f != nil {
		f.users++
		return f
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, users: 1, more: make(chan struct{}), done: make(chan struct{})}
	if p.flights == nil {
		p.flights = map[pull]*flight{}
	}
	p.flights[what] = f
	go func() {
		defer close(f.done)
		f.err = p.pull(ctx, what, f.add)
		p.forget(what, f)
	}()
	return f
}

// leave ends the caller's interest. The last one waits for the pull to end, so that none goes on
// unattended.
func (p *pulls) leave(what pull, f *flight) {
	p.mu.Lock()
	f.users--
	last := f.users == 0
	if last && p.flights[what] == f {
		delete(p.flights, what) // who comes now starts afresh
	}
	p.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

func (p *pulls) forget(what pull, f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flights[what] == f {
		delete(p.flights, what)
	}
}

func (f *flight) add(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line)
	close(f.more)
	f.more = make(chan struct{})
}

// since are the lines from the nth on, and what to wait on for more.
func (f *flight) since(n int) ([]string, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lines[n:], f.more
}
