// Package engine runs specs in a Docker daemon: networks, volumes, containers, pulls and clean-up.
//
// The one rule to keep: no field of a spec could ask for privilege, and create.go writes every
// field that it sends to the daemon by hand, from a step and from nothing else. What a step can't
// say, a container can't get.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fairshare"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// Options of a Docker engine. The zero value is usable.
type Options struct {
	// RunnerName goes onto every object as LabelRunner; empty sets no such label.
	RunnerName string
	// StreamPull writes the progress of pulls into the log of the step that pulls.
	StreamPull bool
	// StopGrace is the time between SIGTERM and SIGKILL when a stage is cancelled; 1 s by default.
	StopGrace time.Duration
	// Pull says how often, how fast and how long a pull is tried.
	Pull PullOptions
	// Deadlines bound the calls to the daemon.
	Deadlines Deadlines
	// Pids bounds the processes and threads of each container; 0 is no bound.
	Pids int64
	// Guard gives builds a docker socket of their own. nil refuses every docker socket.
	Guard *GuardOptions
	// Access says which stage may use which of the daemon's images; nil lets every stage use all of
	// them.
	Access *cache.Access
	// Scopes keep apart what image builds of different repositories cache; see Spec.CacheScope.
	// nil: all share it.
	Scopes *cache.Scopes
	// Ledger records when images and volumes are used; nil records nothing.
	Ledger *cache.Ledger
	// Room frees space on the daemon's disk, and is called when that is full; its error says that
	// there is none to free. nil frees none.
	Room func(ctx context.Context) error
	// Origin is called with where each step's image came from; nil isn't.
	Origin func(ImageOrigin)
	// Log is the operator's; nil discards it.
	Log logrus.FieldLogger
}

// PullOptions say how often, how fast and how long a pull is tried.
type PullOptions struct {
	// Retries after the first try fails for a reason that may pass (a registry that is down,
	// answers 5xx, or resets); 3 by default, negative for none.
	Retries int
	// Interval before the first retry, doubled for each further one, with jitter; 500 ms by
	// default.
	Interval time.Duration
	// Stall is the silence after which a pull counts as failed; 5 min by default. There is no bound
	// on a pull that moves.
	Stall time.Duration
	// Fallback says after which failed pulls the daemon's copy is used.
	Fallback Fallback
}

// Deadlines bound the calls to the daemon, each by its kind. Waiting for a container, streaming its
// output and pulling have none: they end with their context, when the daemon hangs or, for a pull,
// when it stalls.
type Deadlines struct {
	Create  time.Duration // creating a container, attaching to it, connecting it to a network; 2 min
	Start   time.Duration // starting a container; 2 min
	Inspect time.Duration // looking at or listing objects; 30 s
	Stop    time.Duration // delivering a signal, and the container's end after SIGKILL; 30 s
	Remove  time.Duration // removing one object, retries included; 2 min
	Network time.Duration // creating a network; 1 min
	Subnet  time.Duration // waiting for other builds to give back a subnet when the daemon has none left; 30 s
	Volume  time.Duration // creating a volume; 1 min
	// Hang is how long the daemon may answer nothing while a container runs or an image is pulled;
	// 1 min.
	Hang time.Duration
	// OOM is how late the daemon's news may be that the kernel killed a process for memory: a
	// failed step with a memory limit waits for it; 300 ms.
	OOM time.Duration
	// Linger is how long the start of a container may go on after its context was cancelled, so
	// that its outcome is known, and how long a daemon that went away while one ran is looked for;
	// 10 s.
	Linger time.Duration
}

// Docker runs specs in a docker daemon. It implements the runtime's Engine interface, whose
// comments are its contract, and is safe for concurrent use.
type Docker struct {
	client client.APIClient
	opts   Options
	log    logrus.FieldLogger
	pulls  pulls
	// oomScore of containers; see package fairshare.
	oomScore int

	daemon daemonInfo

	unfenced sync.Once // the warning that there are no fences
	unheld   sync.Once // the warning that host paths are bound by name

	mu   sync.Mutex
	runs map[string]*run // by Spec.ID, from Setup to Destroy
	// fetched are the images that were pulled ahead, by Spec.ID, until they are used or the stage
	// is destroyed.
	fetched map[string]map[pull]fetched
}

// New is an engine that talks to the daemon behind c, which should negotiate its API version
// (client.WithAPIVersionNegotiation). The caller keeps c and closes it.
func New(c client.APIClient, o Options) *Docker {
	o.setDefaults()
	d := &Docker{client: c, opts: o, log: o.Log, runs: map[string]*run{}, fetched: map[string]map[pull]fetched{}}
	d.oomScore = fairshare.OOMScore()
	d.pulls.pull = d.pullWithRetries
	return d
}

// Connect is a client for the daemon that the environment names (DOCKER_HOST and its kin; the
// machine's own socket by default), and proves that it answers.
func Connect(ctx context.Context) (*client.Client, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("read DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY and DOCKER_API_VERSION: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ping, err := c.Ping(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask the docker daemon at %s whether it is there (start it, or point DOCKER_HOST at one that runs): %w", c.DaemonHost(), err), c.Close())
	}
	// Now, since the client does it at its first call otherwise, and would read what it writes if
	// there were several at once.
	c.NegotiateAPIVersionPing(ping)
	return c, nil
}

// run is what the engine remembers of a spec between Setup and Destroy.
type run struct {
	// ctx is that of calls that create objects; giveUp ends it.
	ctx    context.Context //nolint:containedctx // it spans the calls of a stage, and ends before them
	giveUp context.CancelFunc

	mu       sync.Mutex
	ended    bool
	calls    int                    // in flight that create objects
	busy     sync.WaitGroup         // the same
	ranSteps int                    // that have ended
	attached map[*prepared]struct{} // prepared, and not yet run
	guarded  *guarded               // nil for a stage without docker sockets
	held     map[string]func()      // by Step.ID: ends the hold on its image
	points   *mounts.Points         // of the binds below; nil without any
	binds    map[string]string      // by Volume.Name: the mount point that stands for its path
}

func newRun() *run {
	r := &run{attached: map[*prepared]struct{}{}}
	r.ctx, r.giveUp = context.WithCancel(context.Background())
	return r
}

var errEnded = errors.New("the stage has ended")

// begin announces a call that creates objects. The caller calls done when it has returned.
func (r *run) begin() (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, errEnded
	}
	r.busy.Add(1)
	r.calls++
	return func() {
		r.mu.Lock()
		r.calls--
		r.mu.Unlock()
		r.busy.Done()
	}, nil
}

// end lets no further call begin, and reports whether one is in flight.
func (r *run) end() (busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.calls > 0
}

// run is the record of spec, or nil before Setup and after Destroy.
func (d *Docker) run(s *spec.Spec) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[s.ID]
}

func (o *Options) setDefaults() {
	for _, x := range []struct {
		d        *time.Duration
		fallback time.Duration
	}{
		{&o.StopGrace, time.Second},
		{&o.Pull.Interval, 500 * time.Millisecond},
		{&o.Pull.Stall, 5 * time.Minute},
		{&o.Deadlines.Create, 2 * time.Minute},
		{&o.Deadlines.Start, 2 * time.Minute},
		{&o.Deadlines.Inspect, 30 * time.Second},
		{&o.Deadlines.Stop, 30 * time.Second},
		{&o.Deadlines.Remove, 2 * time.Minute},
		{&o.Deadlines.Network, time.Minute},
		{&o.Deadlines.Subnet, 30 * time.Second},
		{&o.Deadlines.Volume, time.Minute},
		{&o.Deadlines.Hang, time.Minute},
		{&o.Deadlines.OOM, 300 * time.Millisecond},
		{&o.Deadlines.Linger, 10 * time.Second},
	} {
		if *x.d <= 0 {
			*x.d = x.fallback
		}
	}
	if o.Pull.Retries == 0 {
		o.Pull.Retries = 3
	}
	if o.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		o.Log = silent
	}
}

// linger is a context for a call whose outcome must be known: it ends after timeout (0: no such
// end), or grace after ctx was cancelled, whichever is first.
func linger(ctx context.Context, timeout, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if timeout > 0 {
		out, cancel = context.WithTimeout(context.WithoutCancel(ctx), timeout)
	}
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(grace, cancel)
		context.AfterFunc(out, func() { late.Stop() })
	})
	return out, func() {
		stop()
		cancel()
	}
}
