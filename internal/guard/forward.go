package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// buffers are reused by streams.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// send carries a request to the daemon and streams its answer to the client as it comes. Errors of the daemon are worded for the client (names unscoped). A
// version of "" is the client's.
func (c *call) send(ctx context.Context, o outgoing) error {
	resp, err := c.ask(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.stream(resp)
}

// ask sends a request and returns the daemon's answer if it isn't an error. The caller closes its body.
func (c *call) ask(ctx context.Context, o outgoing) (*http.Response, error) {
	if o.version == "" {
		o.version = c.version
	}
	resp, err := c.g.up.do(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errAnswered // the client has gone, or the guard is closed
		}
		return nil, err
	}
	if err := c.g.up.limitVersion(ctx, resp.Header); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		copyHeader(c.w.Header(), resp.Header)
		return nil, answerError(resp)
	}
	return resp, nil
}

// stream copies an answer to the client, at once.
func (c *call) stream(resp *http.Response) error {
	copyHeader(c.w.Header(), resp.Header)
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified {
		c.w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	c.w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(c.w)
	if resp.ContentLength < 0 {
		_ = flush.Flush() // `wait` answers its header long before its body
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var pace pace
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			if _, err := c.w.Write((*buf)[:n]); err != nil {
				return errAnswered // the client has gone
			}
			if resp.ContentLength < 0 {
				if err := flush.Flush(); err != nil {
					return errAnswered
				}
				pace.rest(n)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
	}
}

// pace lets a stream that comes in a rush of small pieces, as a log is that is read from its beginning, gather for a moment between two reads: to wake up for each
// line takes longer than to hand it on. A piece that comes alone, or among a few, goes on at once.
type pace struct {
	last time.Time
	rush int // small pieces in a row
}

const (
	smallPiece = 16 << 10               // bytes; above, a piece is worth its own turn
	rushGap    = time.Millisecond       // pieces that are further apart are no rush
	rushLength = 16                     // pieces
	gatherTime = 200 * time.Microsecond // well below what a person or a test of a prompt would notice
)

// rest is called when a piece of n bytes has gone on.
func (p *pace) rest(n int) {
	now := time.Now()
	if n > smallPiece || now.Sub(p.last) > rushGap {
		p.rush = 0
	} else {
		p.rush++
	}
	p.last = now
	if p.rush > rushLength {
		time.Sleep(gatherTime)
	}
}

// transform reads an answer whole, changes it, and gives it to the client. For lists and inspections.
func (c *call) transform(resp *http.Response, change func([]byte) ([]byte, error)) error {
	b, err := readAll(resp.Body)
	if err != nil {
		return err
	}
	if b, err = change(b); err != nil {
		return err
	}
	copyHeader(c.w.Header(), resp.Header)
	c.answerBytes(resp.StatusCode, b)
	return nil
}

// sendNamed carries a request to the daemon and gives the client the answer with its names unscoped.
func (c *call) sendNamed(ctx context.Context, o outgoing) error {
	resp, err := c.ask(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) { return c.g.names.answer(b), nil })
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

// answerJSON answers with v.
func (c *call) answerJSON(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.answerBytes(status, append(b, '\n'))
	return nil
}

// readAll reads an answer that has to be looked at whole, within lookupLimit.
func readAll(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, lookupLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read the docker daemon's answer: %w", err)
	}
	if n > lookupLimit {
		return nil, fmt.Errorf("read the docker daemon's answer: it is larger than %d bytes", lookupLimit)
	}
	return b.Bytes(), nil
}

// hopHeaders belong to one connection (RFC 9110, 7.6.1), and Content-Length is set from the body.
var hopHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
}

// copyHeader copies the daemon's headers for the client.
func copyHeader(to, from http.Header) {
	for k, v := range from {
		if !hopHeaders[k] {
			to[k] = v
		}
	}
}

// body is the client's request body, to be streamed. The answer may come while it is still being read.
func (c *call) body() (io.Reader, int64) {
	_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 always can
	if c.r.ContentLength == 0 {
		return nil, 0
	}
	return c.r.Body, c.r.ContentLength
}

// streamHeader is the header of a streamed body. Its type is fixed: the daemon would take a form's fields for query parameters.
func streamHeader() http.Header { return http.Header{"Content-Type": {"application/x-tar"}} }

// jsonBody is v as a request's body.
func jsonBody(v any) (io.Reader, int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.NewReader(b), int64(len(b)), nil
}
