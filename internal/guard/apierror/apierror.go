// Package apierror has the errors that a client of the guard reads: what the policy refuses, and
// answers in the words of a Docker daemon.
//
// The one rule to keep: a text in here may be shown to the author of any pipeline. What the runner
// alone should know is an ordinary error.
package apierror

import (
	"errors"
	"fmt"
	"net/http"
)

// Refusal is the error of what the policy forbids. It is answered with status 403 and says what was
// asked for, the rule that forbids it, and the way to get the same thing if there is one.
type Refusal struct {
	What string // the field, query parameter or endpoint: "HostConfig.Privileged"
	Rule string // why: "a stage's containers are never privileged"
	Way  string // what to do instead, or empty
}

// Error returns the message that the client reads.
func (r Refusal) Error() string {
	s := r.What + " is refused: " + r.Rule
	if r.Way != "" {
		s += "; " + r.Way
	}
	return s
}

// Refuse returns a refusal; way may be empty.
func Refuse(what, rule, way string) error { return Refusal{What: what, Rule: rule, Way: way} }

// Status is an answer with a status and a message: the daemon's own, or one that is worded like it.
type Status struct {
	Code    int
	Message string
}

// Error returns the message.
func (e Status) Error() string { return e.Message }

// New returns an error with that status and message.
func New(code int, message string) Status { return Status{code, message} }

// BadRequest returns what the daemon answers to a request that makes no sense: status 400.
func BadRequest(format string, args ...any) error {
	return New(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// IsNotFound reports whether the daemon, or the guard in its place, says that there is no such
// object.
func IsNotFound(err error) bool {
	var s Status
	return errors.As(err, &s) && s.Code == http.StatusNotFound
}

// IsConflict reports whether the daemon says that the object is in the way of what was asked.
func IsConflict(err error) bool {
	var s Status
	return errors.As(err, &s) && s.Code == http.StatusConflict
}

// Quote returns a text of the client's for use in a message: quoted, and cut when it is long.
func Quote(s string) string { return fmt.Sprintf("%.200q", s) }
