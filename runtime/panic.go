package runtime

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of the runner's own code, caught: it ends the step or stage in which it
// happened as an error, and nothing else.
type PanicError struct {
	// Doing is what was being done.
	Doing string
	Value any
	Stack []byte
}

// Error is fit for the build's page: what happened and that it isn't the pipeline's fault. The
// stack is for the runner's log.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%s: the runner panicked: %v (this is a fault of the runner; its log has the stack)", e.Doing, e.Value)
}

// protect calls f and makes an error of its panic.
func protect(doing string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Doing: doing, Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
