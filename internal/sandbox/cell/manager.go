package cell

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// Shared is the trust domain whose cell is always there.
const Shared = ""

// SharedName is the name of its cell.
const SharedName = "shared"

// NameOf is the name of the cell of a trust domain.
func NameOf(domain string) string {
	if domain == Shared {
		return SharedName
	}
	sum := sha256.Sum256([]byte(domain))
	return "d" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
}

// ManagerOptions describe the cells of a runner. All fields but Binds, Prove, Probe, Warm and Idle
// are required.
type ManagerOptions struct {
	// Program, Run, Environ are of Options.
	Program string
	Run     string
	Environ []string
	// Data is the folder that has the data of each cell in a folder of its name.
	Data string
	// Uplink is the system container's way out.
	Uplink uplink.Uplink
	// Config is the daemon's configuration for a data folder, a socket and the cell's own link.
	Config func(data, socket string, link Link) ([]byte, error)
	// Binds are what the cell of a domain sees besides, at the same paths. nil is nothing.
	Binds func(domain string) []string
	// Prove and Probe are of Options, for each cell.
	Prove func(ctx context.Context, c *Cell, pid int) error
	Probe func(ctx context.Context, c *Cell) error
	// Warm is how many cells that nobody uses are kept running, besides the shared one, and Idle
	// for how long.
	Warm int
	Idle time.Duration
	Log  logrus.FieldLogger
}

// Manager has a cell for each trust domain, which runs while it is used and a while longer.
//
//  1. Run keeps the shared cell alive, stops those that nobody uses, and stops all when its context
//     ends.
//  2. Take starts the cell of a domain if it doesn't run, and waits until it answers. The Lease
//     that it returns keeps the cell running until Release.
//  3. Running lists the cells that run; Evict removes the data of one that doesn't.
//
// All but Run may be called concurrently. A cell that comes back empty-handed (a proof that fails,
// for one) is an error of Take for its domain; that of the shared cell ends Run.
type Manager struct {
	o       ManagerOptions
	links   links
	machine Machine
	shared  *entry
	kick    chan struct{} // a lease has ended

	mu      sync.Mutex
	entries map[string]*entry // by name
	// ctx is that of the cells; nil before Run.
	ctx     context.Context //nolint:containedctx // cells outlive the call that starts them
	running sync.WaitGroup
}

// entry is a cell that runs, or is being stopped.
type entry struct {
	domain   string
	cell     *Cell
	link     Link
	users    int
	released time.Time
	stop     context.CancelFunc
	stopping bool
	done     chan struct{} // closed when Run has returned; err is valid then
	err      error
}

// NewManager raises the walls that all cells are behind, and prepares the shared cell. It starts
// nothing.
func NewManager(o ManagerOptions) (*Manager, error) {
	r, err := FindRange(o.Uplink.Taken)
	if err != nil {
		return nil, err
	}
	if err := RaiseWall(r); err != nil {
		return nil, err
	}
	m := &Manager{
		o: o, links: links{r: r, mtu: o.Uplink.MTU}, machine: FindMachine(),
		kick: make(chan struct{}, 1), entries: map[string]*entry{},
	}
	if err := BoundAll(m.machine.All()); err != nil {
		return nil, err
	}
	if m.shared, err = m.newEntry(Shared); err != nil {
		return nil, err
	}
	return m, nil
}

// Shared is the cell that is always there. It runs while Run does.
func (m *Manager) Shared() *Cell { return m.shared.cell }

// Run keeps the shared cell alive until ctx ends. When it returns no cell runs. The error is why
// the shared cell can't be.
func (m *Manager) Run(ctx context.Context) error {
	cells, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	m.mu.Lock()
	m.ctx = cells
	m.launch(m.shared)
	m.mu.Unlock()
	for {
		wait := time.NewTimer(m.tidy())
		select {
		case <-wait.C:
			continue
		case <-m.kick:
			wait.Stop()
			continue
		case <-m.shared.done:
		case <-ctx.Done():
		}
		wait.Stop()
		break
	}
	m.mu.Lock()
	m.ctx = nil // no cell begins any more
	m.mu.Unlock()
	stop()
	m.running.Wait()
	return m.shared.err
}

// launch runs the cell of an entry. The caller holds mu.
func (m *Manager) launch(e *entry) {
	ctx, stop := context.WithCancel(m.ctx)
	e.stop = stop
	m.entries[e.cell.Name()] = e
	m.running.Go(func() {
		defer stop()
		e.err = e.cell.Run(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.entries, e.cell.Name())
		m.links.free(e.link)
		close(e.done)
	})
}

// newEntry prepares the cell of a domain. The caller holds mu, or is NewManager.
func (m *Manager) newEntry(domain string) (*entry, error) {
	link, err := m.links.take()
	if err != nil {
		return nil, err
	}
	e := &entry{domain: domain, link: link, done: make(chan struct{})}
	name := NameOf(domain)
	var binds []string
	if m.o.Binds != nil {
		binds = m.o.Binds(domain)
	}
	log := m.o.Log
	if domain != Shared {
		log = log.WithFields(logrus.Fields{"cell": name, "domain": domain})
	}
	e.cell, err = New(Options{
		Name: name, Program: m.o.Program, Data: filepath.Join(m.o.Data, name, "data"), Run: m.o.Run, Binds: binds,
		Config:   func(data, socket string) ([]byte, error) { return m.o.Config(data, socket, link) },
		Link:     link,
		Resolver: m.o.Uplink.Resolver,
		Bounds:   m.machine.Each(domain == Shared),
		Environ:  m.o.Environ,
		Prove: func(ctx context.Context, _ string, pid int) error {
			if m.o.Prove == nil {
				return nil
			}
			return m.o.Prove(ctx, e.cell, pid)
		},
		Probe: func(ctx context.Context) error {
			if m.o.Probe == nil {
				return e.cell.ping(ctx)
			}
			return m.o.Probe(ctx, e.cell)
		},
		Log: log,
	})
	if err != nil {
		m.links.free(link)
		return nil, err
	}
	return e, nil
}

// Lease keeps a cell running.
type Lease struct {
	// Cell is the domain's.
	Cell *Cell
	end  func()
}

// Release ends the lease. It may be called again.
func (l *Lease) Release() { l.end() }

var errStopped = errors.New("the runner is shutting down")

// Take waits until the cell of a domain answers, and starts it if it doesn't run.
func (m *Manager) Take(ctx context.Context, domain string) (*Lease, error) {
	e, err := m.use(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("start the Docker daemon of this repository: %w", err)
	}
	lease := &Lease{Cell: e.cell, end: sync.OnceFunc(func() { m.release(e) })}
	if err := e.cell.Daemon.Ready(ctx); err != nil {
		lease.Release()
		return nil, err
	}
	m.noteUse(e)
	return lease, nil
}

// use counts a user of the domain's cell in.
func (m *Manager) use(ctx context.Context, domain string) (*entry, error) {
	name := NameOf(domain)
	for {
		m.mu.Lock()
		if m.ctx == nil {
			m.mu.Unlock()
			return nil, errStopped
		}
		e := m.entries[name]
		if e == nil && domain != Shared {
			var err error
			if e, err = m.newEntry(domain); err != nil {
				m.mu.Unlock()
				return nil, err
			}
			m.o.Log.WithFields(logrus.Fields{"cell": name, "domain": domain}).Info("starting a cell")
			m.launch(e)
		}
		if e != nil && !e.stopping {
			e.users++
			m.mu.Unlock()
			return e, nil
		}
		m.mu.Unlock()
		if e == nil {
			return nil, errStopped
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (m *Manager) release(e *entry) {
	m.mu.Lock()
	e.users--
	e.released = time.Now()
	m.mu.Unlock()
	m.noteUse(e)
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// noteUse writes down when the domain was last used, which orders evictions.
func (m *Manager) noteUse(e *entry) {
	if e.domain == Shared {
		return
	}
	if err := writeUse(filepath.Join(m.o.Data, e.cell.Name()), e.domain, time.Now()); err != nil {
		m.o.Log.WithError(err).WithField("cell", e.cell.Name()).Warn("when the cell was last used can't be written down")
	}
}

// tidy stops cells that nobody has used for long, or that are too many, and returns when to look
// again.
func (m *Manager) tidy() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var idle []*entry
	for _, e := range m.entries {
		if e.domain != Shared && e.users == 0 && !e.stopping {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *entry) int { return b.released.Compare(a.released) })
	again := time.Hour
	for i, e := range idle {
		left := m.o.Idle - time.Since(e.released)
		if i < m.o.Warm && left > 0 {
			again = min(again, left)
			continue
		}
		e.stopping = true
		e.stop()
		m.o.Log.WithFields(logrus.Fields{"cell": e.cell.Name(), "domain": e.domain}).Info("stopping a cell that no stage uses")
	}
	return again
}

// Status is of a cell that runs.
type Status struct {
	Cell   *Cell
	Domain string
	// Users are the stages that have it.
	Users int
}

// Running lists the cells that run, by name.
func (m *Manager) Running() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Status
	for _, e := range m.entries {
		out = append(out, Status{e.cell, e.domain, e.users})
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Cell.Name(), b.Cell.Name()) })
	return out
}

// links gives each cell a cable of its own. Manager.mu guards it.
type links struct {
	r    netip.Prefix
	mtu  int
	used [maxLinks]bool
}

func (l *links) take() (Link, error) {
	for n, used := range l.used {
		if !used {
			l.used[n] = true
			return Link{Number: n, Range: l.r, MTU: l.mtu}, nil
		}
	}
	return Link{}, fmt.Errorf("%d cells run, and there are addresses for no more", maxLinks)
}

func (l *links) free(link Link) { l.used[link.Number] = false }
