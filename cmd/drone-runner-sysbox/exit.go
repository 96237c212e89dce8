package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Exit codes. A program that ends because of a signal exits with 128 and the signal's number, as a
// shell would say: 130 for Ctrl-C.
const (
	exitOK     = 0
	exitFailed = 1 // a step failed, or the daemon couldn't go on
	exitWrong  = 2 // nothing was run: the file, the call or the machine is not as it has to be
)

// exitError ends the program with a code. Its text, if there is one, is printed to standard error.
type exitError struct {
	code int
	err  error
}

// Error is the text of the reason, "" if whoever made it has told already.
func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap is the reason.
func (e *exitError) Unwrap() error { return e.err }

// told ends the program with a code and without another word.
func told(code int) error { return &exitError{code: code} }

// failed says that something went wrong that isn't the caller's fault.
func failed(err error) error { return &exitError{code: exitFailed, err: err} }

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

// Error names the signal.
func (e *signalError) Error() string { return "stopped by a signal: " + e.signal.String() }

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitWrong
	var exit *exitError
	var bySignal *signalError
	var invalid *resource.InvalidError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case errors.As(err, &bySignal):
		code = 128 + int(bySignal.signal)
	}
	switch text := strings.TrimSpace(err.Error()); {
	case text == "":
	case errors.As(err, &invalid):
		// One finding a line, each of which begins with its place: nothing before it, so that
		// editors can jump there.
		fmt.Fprintln(stderr, text)
	default:
		fmt.Fprintf(stderr, "drone-runner-sysbox: %s\n", text)
	}
	return code
}
