package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// outcome is what became of a call that was repeated as long as it made sense.
type outcome struct {
	answer
	// unsure is set when an attempt before the last may have been applied by the server without its
	// answer getting here. A lock error of the last attempt then may be our own doing.
	unsure bool
}

// retry makes the call until it succeeds, can't succeed any more, or the context ends; the error
// then holds the cause and the last failure. check, if any, reads a successful answer and may
// refuse it.
func (c *Client) retry(ctx context.Context, k call, check func(answer) error) (outcome, error) {
	var out outcome
	var last error
	refused := c.newRefusal(k)
	reminder := &pause.Reminder{}
	attempt := func() (struct{}, error) {
		if last != nil {
			out.unsure = out.unsure || unsure(last)
		}
		a, err := c.attempt(ctx, k)
		if err == nil && check != nil {
			err = check(a)
		}
		if err == nil {
			out.answer = a
			return struct{}{}, nil
		}
		var status *StatusError
		if ctx.Err() != nil && last != nil && !errors.As(err, &status) {
			// the context cut this attempt short: the failure before it tells more
			return struct{}{}, backoff.Permanent(err)
		}
		last = err
		if !retryable(err) || k.keepsFirst && errors.Is(err, errDuplicate) {
			return struct{}{}, backoff.Permanent(err)
		}
		last = refused.judge(ctx, err)
		if gaveUp := (*RefusedError)(nil); errors.As(last, &gaveUp) {
			return struct{}{}, backoff.Permanent(last)
		}
		if errors.As(err, &status) && status.after > 0 {
			return struct{}{}, errors.Join(err, &backoff.RetryAfterError{Duration: max(status.after, c.opts.Backoff.Initial)})
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, attempt,
		backoff.WithBackOff(c.pauses()),
		backoff.WithMaxElapsedTime(0),
		backoff.WithMaxTries(c.opts.Backoff.Tries),
		backoff.WithNotify(func(_ error, wait time.Duration) { c.again(reminder, last, wait) }))
	if err == nil {
		return out, nil
	}
	cause := context.Cause(ctx)
	var given *RefusedError
	switch {
	case cause == nil || !retryable(last) || errors.As(last, &given):
		return out, last
	default:
		return out, fmt.Errorf("gave up: %w: %w", cause, last)
	}
}

// pauses are the pauses between attempts: doubling, jittered.
func (c *Client) pauses() *backoff.ExponentialBackOff {
	return pause.Growing(c.opts.Backoff.Initial, c.opts.Backoff.Max)
}

// again logs a failure that will be tried once more.
func (c *Client) again(reminder *pause.Reminder, err error, wait time.Duration) {
	const text = "a call of the drone server failed and is tried again"
	log := c.log.WithError(err).WithField("pause", wait.Round(time.Millisecond).String())
	if reminder.Next() {
		log.Warn(text)
	} else {
		log.Debug(text)
	}
}

// decode reads the JSON of an answer. An answer that can't be read may come better the next time.
func (c *Client) decode(k call, a answer, into any) error {
	dec := json.NewDecoder(bytes.NewReader(a.body))
	if err := dec.Decode(into); err != nil {
		if len(bytes.TrimSpace(a.body)) == 0 {
			err = errors.New("it is empty")
		} else {
			err = fmt.Errorf("JSON: %w, at byte %d of %d", err, dec.InputOffset(), len(a.body))
		}
		return &AnswerError{Call: k.name, Server: c.base, Err: err}
	}
	return nil
}

// wrong is an answer that can be read and makes no sense. final says that it will stay so.
func (c *Client) wrong(k call, final bool, format string, args ...any) error {
	return &AnswerError{Call: k.name, Server: c.base, Err: fmt.Errorf(format, args...), final: final}
}

// encode makes the JSON of a request.
func encode(name string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%s: write the request: %w", name, err)
	}
	return body, nil
}
