package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// send carries a request to the daemon and streams its answer to the client as it comes. Errors of
// the daemon are worded for the client (names unscoped). A version of "" is the client's.
func (c *call) send(ctx context.Context, o dockerd.Request) error {
	resp, err := c.ask(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return dockerd.Relay(c.w, resp)
}

// ask sends a request and returns the daemon's answer if it isn't an error. The caller closes its
// body.
func (c *call) ask(ctx context.Context, o dockerd.Request) (*http.Response, error) {
	if o.Version == "" {
		o.Version = c.version
	}
	resp, err := c.g.up.Do(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, dockerd.ErrAnswered // the client has gone, or the guard is closed
		}
		return nil, err
	}
	if err := c.g.up.LimitVersion(ctx, resp.Header); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		dockerd.CopyHeader(c.w.Header(), resp.Header)
		return nil, dockerd.AnswerError(resp)
	}
	return resp, nil
}

// transform reads an answer whole, changes it, and gives it to the client. For lists and
// inspections.
func (c *call) transform(resp *http.Response, change func([]byte) ([]byte, error)) error {
	b, err := dockerd.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if b, err = change(b); err != nil {
		return err
	}
	dockerd.CopyHeader(c.w.Header(), resp.Header)
	c.answerBytes(resp.StatusCode, b)
	return nil
}

// sendNamed carries a request to the daemon and gives the client the answer with its names
// unscoped.
func (c *call) sendNamed(ctx context.Context, o dockerd.Request) error {
	resp, err := c.ask(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) { return c.g.names.Answer(b), nil })
}

// answerBytes answers with a JSON text.
func (c *call) answerBytes(status int, b []byte) {
	h := c.w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b) // a client that has gone needs no answer
}

// answerJSON answers 200 with v.
func (c *call) answerJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.answerBytes(http.StatusOK, append(b, '\n'))
	return nil
}

// body returns the client's request body, to be streamed. The answer may come while it is still
// being read.
func (c *call) body() (io.Reader, int64) {
	_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 always can
	if c.r.ContentLength == 0 {
		return nil, 0
	}
	return c.r.Body, c.r.ContentLength
}
