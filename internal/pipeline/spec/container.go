package spec

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrKill is the cause to cancel the context of Container.Run with when nobody needs the container
// to end in good order: a service whose build is over.
var ErrKill = errors.New("its work is done")

// Exit is how a container ended.
type Exit struct {
	// Code as the process gave it, 137 when the kernel killed it for memory.
	Code int
	// OOMKilled is set when the kernel killed it for memory.
	OOMKilled bool
}

// Container is a prepared step: created, its output attached, not started.
type Container interface {
	// Run starts the container, copies its standard output and error to output until the last byte
	// of both has been written, and waits for its end. It is called once.
	//
	// It calls started, unless that is nil, once, as soon as the daemon has started the container,
	// and not at all when it can't be started: what waits for a service goes on then. The call is
	// quick and doesn't block.
	//
	// A cancelled context stops the container (SIGTERM, a grace period, SIGKILL; without the grace
	// if its cause is ErrKill); Run then returns, after the last output, the context's error. Run
	// never returns while it may still write to output.
	Run(ctx context.Context, output io.Writer, started func()) (Exit, error)
	// Ready waits until the container is of use to others: until its health check, if it or its
	// image has one, has passed for the first time. It is called while Run runs, once that has
	// called started.
	//
	// It fails with ErrEnded if the container has ended, and with an *UnhealthyError if the check
	// hasn't passed when the context ends.
	Ready(ctx context.Context) error
}

// ErrEnded is what Container.Ready fails with when the container has ended; Run tells how.
var ErrEnded = errors.New("the container has ended")

// UnhealthyError is why a container isn't ready: its health check has never passed.
type UnhealthyError struct {
	// Check is the command, as the image gives it.
	Check string
	// Output of the check that the daemon has made last, "" if it printed nothing or none has
	// ended. It may hold secrets.
	Output string
	// ExitCode of that check; -1 if none has ended, or it took too long.
	ExitCode int
}

// Error says what the check is, and how it ended last.
func (e *UnhealthyError) Error() string {
	text := fmt.Sprintf("its health check (%s) ", e.Check)
	if e.ExitCode < 0 {
		text += "hasn't ended"
	} else {
		text += fmt.Sprintf("ends with exit code %d", e.ExitCode)
	}
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}
