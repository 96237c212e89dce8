package syscont

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// Daemon is the Docker daemon of the system container: a child of this process, started again
// whenever it dies.
//
//  1. Run starts it and stays with it until its context ends; then it stops the daemon (SIGTERM,
//     and SIGKILL after StopTimeout) and returns.
//  2. Ready waits until the daemon answers and OnUp has agreed.
//  3. Stopped returns why the daemon is not there, or can't be used, for a caller that meets a dead
//     socket.
//
// A daemon that lives and hangs, or can't do its work, is as good as dead: see watch.
//
// Ready and Stopped may be called at any time and concurrently.
type Daemon struct {
	// Program is the dockerd to run, looked up in PATH; "dockerd" by default.
	Program string
	// Args follow it: --config-file, and what the tests need.
	Args []string
	// Launch starts a life of the daemon, with out for its standard output and error, and returns
	// the command for Run to wait for. nil starts Program with Args as a plain child.
	Launch func(out *os.File) (*exec.Cmd, error)
	// Buried cleans up after a life, when its process has ended. nil has nothing to clean up.
	Buried func() error
	// PidFiles maps a pid file that an unclean stop leaves behind to the program that its pid must
	// be of to be believed; see removeStale.
	PidFiles map[string]string
	// Networks is the file that the daemon keeps its networks in; see setAside. Empty: it is left
	// alone.
	Networks string
	// Ping asks the daemon whether it answers.
	Ping func(context.Context) error
	// Probe checks a daemon that is up, again and again; nil is Ping. An error that is a
	// *PlaceError says that no restart of the daemon would help.
	Probe func(context.Context) error
	// ProbeInterval is the pause between two probes, 10 s by default, and ProbeTimeout how long one
	// may take, 15 s by default.
	ProbeInterval, ProbeTimeout time.Duration
	// Patience is how long probes may fail before the daemon is killed and started again; a minute
	// by default.
	Patience time.Duration
	// OnUp is called each time that the daemon answers after a start. Its error is final: the
	// daemon is stopped, and Run returns it.
	OnUp func(ctx context.Context, pid int) error
	// StartTimeout bounds the time from start to the first answer; a minute by default: a large
	// cache on a slow disk takes its time.
	StartTimeout time.Duration
	// StopTimeout bounds the time between SIGTERM and SIGKILL; 15 s by default, which is what
	// dockerd gives its containers.
	StopTimeout time.Duration
	Log         logrus.FieldLogger

	mu        sync.Mutex
	up        chan struct{} // closed while the daemon is up
	stopped   error         // why it isn't; nil before the first start
	deaths    int           // how often it has died or fallen silent
	lastDeath *StoppedError
	final     error // why it never will be again
	tail      tail
}

// StoppedError says that the daemon died. Its last words hold names of all stages, and are for the
// operator's log alone: Error leaves them out.
type StoppedError struct {
	// How it ended: "exit status 1", "signal: killed".
	How string
	// Lines are its last log lines.
	Lines []string

	// early: it hadn't answered yet.
	early bool
}

// Error names the end.
func (e *StoppedError) Error() string { return "the Docker daemon stopped (" + e.How + ")" }

// Report names the end and quotes the lines.
func (e *StoppedError) Report() string {
	if len(e.Lines) == 0 {
		return e.Error()
	}
	return e.Error() + "; the last that it said:\n" + strings.Join(e.Lines, "\n")
}

// Run keeps the daemon alive until ctx ends. It returns nil after a stop that was asked for, else
// the error of OnUp, or that there is no such program.
func (d *Daemon) Run(ctx context.Context) error {
	program, err := exec.LookPath(or(d.Program, "dockerd"))
	if err != nil && d.Launch == nil {
		return d.end(fmt.Errorf("start the Docker daemon: %w: it is part of the runner's image (docker/Dockerfile); outside of it, DRONE_RUNNER_SANDBOX=none uses a Docker that is there", err))
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 30*time.Second
	for {
		began := time.Now()
		err := d.live(ctx, program)
		if d.Buried != nil {
			if err := d.Buried(); err != nil {
				d.Log.WithError(err).Warn("the daemon left something that can't be removed")
			}
		}
		var stopped *StoppedError
		switch {
		case ctx.Err() != nil:
			return d.end(nil)
		case !errors.As(err, &stopped):
			return d.end(err)
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		d.heal(stopped)
		again := wait.NextBackOff()
		d.Log.WithField("again_in", again.Round(time.Millisecond)).Error(stopped.Report())
		if pause.For(ctx, again) != nil {
			return d.end(nil)
		}
	}
}

// Ready waits until the daemon is up, and returns the error that ends all waiting if it never will
// be.
func (d *Daemon) Ready(ctx context.Context) error {
	for {
		d.mu.Lock()
		up, final := d.gate(), d.final
		d.mu.Unlock()
		if final != nil {
			return final
		}
		select {
		case <-up:
			return d.ended()
		case <-ctx.Done():
			if err := d.Stopped(); err != nil {
				return fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			return context.Cause(ctx)
		}
	}
}

// Stopped is nil while the daemon is up or has not been up yet, else why it is not.
func (d *Daemon) Stopped() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// Deaths counts the times that the daemon died or fell silent, so that whoever was at work with it
// can see whether it is the same one still; last is the last such end, nil if there was none.
func (d *Daemon) Deaths() (n int, last *StoppedError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deaths, d.lastDeath
}

// live is one life of the daemon. It returns a StoppedError when the daemon died or fell silent,
// nil when it was stopped on request, any other error when it can't live here.
func (d *Daemon) live(ctx context.Context, program string) error {
	for file, of := range d.PidFiles {
		if err := removeStale(file, of); err != nil {
			return err
		}
	}
	d.tail.reset()
	p, err := d.start(program)
	if err != nil {
		return fmt.Errorf("start the Docker daemon: %w", err)
	}
	err = d.greet(ctx, p)
	early := err != nil
	if !early {
		err = d.watch(ctx, p)
	}
	why := "it didn't answer"
	if errors.Is(err, errDied) {
		why = how(p.err)
	} else {
		d.close()
		d.terminate(p)
	}
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, errDied) || errors.Is(err, errSilent) {
		stopped := &StoppedError{How: why, Lines: d.tail.lines(), early: early}
		d.died(stopped)
		return stopped
	}
	return err
}

var (
	errDied   = errors.New("the Docker daemon died")
	errSilent = errors.New("the Docker daemon didn't answer in time")
)

// process is a running dockerd.
type process struct {
	*os.Process
	dead chan struct{} // closed when it has ended and its log has been read
	err  error         // how; valid once dead is closed
}

// start starts the program and the goroutine that waits for it.
func (d *Daemon) start(program string) (*process, error) {
	// A pipe of our own: its end is not the end of the process, since a containerd-shim that
	// outlives a killed dockerd may hold it open.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	launch := d.Launch
	if launch == nil {
		launch = func(out *os.File) (*exec.Cmd, error) { return plainChild(program, d.Args, out) }
	}
	cmd, err := launch(w)
	if err != nil {
		r.Close()
		return nil, err
	}
	p := &process{Process: cmd.Process, dead: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		d.relay(r)
	}()
	go func() {
		defer close(p.dead)
		p.err = cmd.Wait()
		select {
		case <-read:
		case <-time.After(200 * time.Millisecond): // what it said last is in the pipe already
		}
		r.Close()
		<-read
	}()
	return p, nil
}

// plainChild starts a program in the namespaces of this process.
func plainChild(program string, args []string, out *os.File) (*exec.Cmd, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: a Ctrl-C in the operator's terminal is for the runner, which stops the
	// daemon last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, cmd.Start()
}

// greet waits for the first answer and for OnUp's consent, and opens the gate.
func (d *Daemon) greet(ctx context.Context, p *process) error {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, orDuration(d.StartTimeout, time.Minute), errSilent)
	defer cancel()
	for {
		err := d.Ping(ctx)
		if err == nil {
			break
		}
		select {
		case <-p.dead:
			return errDied
		case <-ctx.Done():
			return fmt.Errorf("wait for the Docker daemon to answer: %w: %w", context.Cause(ctx), err)
		case <-time.After(25 * time.Millisecond):
		}
	}
	if d.OnUp != nil {
		if err := d.OnUp(ctx, p.Pid); err != nil {
			select {
			case <-p.dead: // no refusal: there was nobody to look at
				return errDied
			default:
				return err
			}
		}
	}
	d.Log.WithField("pid", p.Pid).WithField("took", time.Since(began).Round(time.Millisecond)).Info("the Docker daemon is up")
	d.open()
	return nil
}

// terminate stops a process that was alive a moment ago, and waits for its end.
func (d *Daemon) terminate(p *process) {
	_ = p.Signal(syscall.SIGTERM) // fails only when it is dead already
	select {
	case <-p.dead:
	case <-time.After(orDuration(d.StopTimeout, 15*time.Second)):
		d.Log.Warn("the Docker daemon didn't stop on SIGTERM; killing it")
		_ = p.Kill()
		<-p.dead
	}
}

// open opens the gate: the daemon is up.
func (d *Daemon) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = nil
	select {
	case <-d.gate():
	default:
		close(d.gate())
	}
}

// close shuts the gate: the daemon is not up.
func (d *Daemon) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.gate():
		d.up = nil
	default:
	}
}

// died shuts the gate, and says why.
func (d *Daemon) died(why *StoppedError) {
	d.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped, d.lastDeath = why, why
	d.deaths++
}

// end makes the present state final, and lets go of everybody who waits.
func (d *Daemon) end(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.final = err
	if err == nil {
		d.final = errors.New("the Docker daemon was stopped: the runner is shutting down")
	}
	d.stopped = d.final
	select {
	case <-d.gate():
	default:
		close(d.gate())
	}
	return err
}

func (d *Daemon) ended() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.final
}

// gate is the channel that is closed while the daemon is up. The caller holds mu.
func (d *Daemon) gate() chan struct{} {
	if d.up == nil {
		d.up = make(chan struct{})
	}
	return d.up
}

// relay passes the daemon's log on, line by line, at its own levels.
func (d *Daemon) relay(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			d.tail.add(line)
			level, msg := parseLogfmt(line)
			logTo(d.Log.WithField("from", "dockerd"), level, msg)
		}
		if err != nil {
			return
		}
	}
}

// how describes the end of a process. A daemon that is not a direct child ended as its parent says,
// which is docker-init: with 128 and the number of the signal.
func how(err error) string {
	if err == nil {
		return "exit status 0"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 128 {
		return "signal: " + syscall.Signal(exit.ExitCode()-128).String()
	}
	return err.Error()
}

// removeStale removes a pid file whose pid is no living process of that program: in a container
// that was restarted the number belongs to anybody, and dockerd would refuse to start ("pid file
// found").
func removeStale(file, program string) error {
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the pid file %s: %w", file, err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == program {
			return fmt.Errorf("%s is running already as pid %d (%s): the runner starts its own; stop that one", program, pid, file)
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("remove the stale pid file %s: %w", file, err)
	}
	return nil
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func orDuration(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
