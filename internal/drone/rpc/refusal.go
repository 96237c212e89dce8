package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// RefusedError is a call that the server refused for so long, while it did everything else, that it
// was given up.
type RefusedError struct {
	// For is how long that was.
	For time.Duration
	// Err is the last failure.
	Err error
}

// Error returns the last failure and how long there was no other answer.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server refused this for %s and does everything else: %v", e.For.Round(time.Second), e.Err)
}

// Unwrap returns the last failure.
func (e *RefusedError) Unwrap() error { return e.Err }

// refusal tells a call that the server refuses from a server that is away. It asks the server now
// and then, not after each attempt: an outage would double its calls otherwise.
type refusal struct {
	client *Client
	limit  time.Duration
	since  time.Time // of the first failure with a server that works; zero if there is none
	asked  time.Time // when the server was asked last, or the call first failed
}

// looks is how often a server is asked within the limit.
const looks = 20

// newRefusal returns the judge of one call. Its limit is 0 where the call has none.
func (c *Client) newRefusal(k call) *refusal {
	r := &refusal{client: c, limit: c.opts.RefusedFor}
	if k.unlimited || k.public {
		r.limit = 0
	}
	return r
}

// judge returns the failure of an attempt, or a *RefusedError when it has been the same for too
// long with a server that works.
func (r *refusal) judge(ctx context.Context, failure error) error {
	if r.limit <= 0 {
		return failure
	}
	now := time.Now()
	if r.asked.IsZero() {
		r.asked = now
	}
	if now.Sub(r.asked) < r.limit/looks {
		return failure
	}
	r.asked = now
	if !r.client.works(ctx, failure) {
		r.since = time.Time{}
		return failure
	}
	if r.since.IsZero() {
		r.since = now
	}
	if refused := now.Sub(r.since); refused >= r.limit {
		return &RefusedError{For: refused, Err: failure}
	}
	return failure
}

// works reports whether the server and its database answer, just after an attempt that failed. It
// asks for a stage that isn't there: the answer needs the database and changes nothing. A ping
// wouldn't do, since the server answers it without its database.
func (c *Client) works(ctx context.Context, failure error) bool {
	if !unsure(failure) && !isStatus(failure) {
		return false // Nobody listens.
	}
	_, err := c.attempt(ctx, call{name: "see whether the server works", method: http.MethodGet, path: "/stage/0"})
	var status *StatusError
	return err == nil || errors.As(err, &status) && errors.Is(status.kind, ErrNotFound) && status.Status != http.StatusNotFound
}

// isStatus reports whether the failure is an answer.
func isStatus(err error) bool {
	var status *StatusError
	return errors.As(err, &status)
}
