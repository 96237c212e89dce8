package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	basePath    = "/rpc/v2"
	tokenHeader = "X-Drone-Token"
	// dialTimeout covers two lost packets of a connection's begin; see DefaultBackoffMax.
	dialTimeout = 4 * time.Second
	// maxAnswer bounds what is read of an answer, so that a broken server or proxy can't fill the
	// memory.
	maxAnswer = 64 << 20
)

// call is one request to make, as often as it takes.
type call struct {
	// name says what is being done, on what: "update step 12". It opens every error.
	name   string
	method string
	path   string // below basePath
	// public marks a call of the server's API for people: its path is below the server's address,
	// and it has no token.
	public bool
	// body is sent as it is. Instead, stream is opened anew for each attempt.
	body   []byte
	stream func() (io.ReadCloser, error)
	// poll marks the calls that the server holds for 30 s.
	poll bool
	// keepsFirst marks the calls whose content the server stores once: a duplicate then is a
	// delivery.
	keepsFirst bool
	// unlimited marks the calls to which Options.RefusedFor doesn't apply.
	unlimited bool
}

// answer is what came back, read to its end, with a status from 200 to 299.
type answer struct {
	status int
	body   []byte
}

// errStalled ends an attempt that stood still.
var errStalled = errors.New("nothing moved")

// newHTTPClient makes the one connection pool of a client: HTTP/1.1, since long polls that share
// one HTTP/2 connection all die with it, and no redirect is followed, since a PUT would silently
// become a GET.
func newHTTPClient(skipVerify bool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify},
			TLSHandshakeTimeout: 15 * time.Second,
			Protocols:           &protocols,
			// Shorter than the keep-alive of the usual proxies, so that a request seldom meets a
			// connection that was just closed.
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   64,
			ExpectContinueTimeout: time.Second,
		},
	}
}

// attempt makes the call once. Its errors are a *StatusError, a *TransportError, an *AnswerError,
// the context's cause, or one that no repetition mends.
func (c *Client) attempt(ctx context.Context, k call) (answer, error) {
	if c.bad != nil {
		return answer{}, fmt.Errorf("%s: %w", k.name, c.bad)
	}
	patience := c.opts.CallTimeout
	if k.poll {
		patience = c.opts.PollTimeout
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(patience, func() { cancel(errStalled) })
	defer stalled.Stop()

	req, sent, err := c.request(ctx, k, func() { stalled.Reset(patience) })
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", k.name, err)
	}
	c.dump.request(req, k)
	a, err := c.roundTrip(req, k, func() { stalled.Reset(patience) })
	if sent != nil {
		// The transport may still be reading the stream, which belongs to the caller: hang up and
		// wait until it has let go.
		cancel(nil)
		<-sent.closed
		if rerr := sent.failure(); rerr != nil {
			return answer{}, fmt.Errorf("%s: read what is to be sent: %w", k.name, rerr)
		}
	}
	var status *StatusError
	switch {
	case err == nil || errors.As(err, &status):
		return a, err
	case context.Cause(outer) != nil:
		return answer{}, fmt.Errorf("%s: %w", k.name, context.Cause(outer))
	case errors.Is(context.Cause(ctx), errStalled):
		// Not the transport's error, which is the cancelled context only.
		err = &TransportError{Call: k.name, Server: c.base, Err: fmt.Errorf("%w for %s", errStalled, patience)}
	}
	c.dump.failure(req, err)
	return answer{}, err
}

// request builds the HTTP request. The stream that it sends, if any, is the second result.
func (c *Client) request(ctx context.Context, k call, moved func()) (*http.Request, *stream, error) {
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	base := c.base + basePath
	if k.public {
		base = c.base
	}
	req, err := http.NewRequestWithContext(ctx, k.method, base+k.path, body)
	if err != nil {
		return nil, nil, err
	}
	if !k.public {
		req.Header.Set(tokenHeader, c.opts.Secret)
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if k.stream == nil {
		return req, nil, nil
	}
	source, err := k.stream()
	if err != nil {
		return nil, nil, fmt.Errorf("open what is to be sent: %w", err)
	}
	s := newStream(source, moved)
	req.Body, req.ContentLength = s, s.length()
	if req.ContentLength < 0 || req.ContentLength > expectAbove {
		// A proxy that caps the size of bodies then says so before it has been sent megabytes that
		// it cuts off.
		req.Header.Set("Expect", "100-continue")
	}
	return req, s, nil
}

func (c *Client) roundTrip(req *http.Request, k call, moved func()) (answer, error) {
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its text repeats the method and the address
		}
		return answer{}, &TransportError{Call: k.name, Server: c.base, Err: err}
	}
	defer res.Body.Close()
	moved()
	body, err := io.ReadAll(io.LimitReader(&movingReader{r: res.Body, moved: moved}, maxAnswer+1))
	c.dump.answer(req, res, body)
	switch {
	case res.StatusCode < 200 || res.StatusCode > 299:
		// What could be read of the text of an error is enough.
		return answer{}, c.statusError(k, res, body)
	case err != nil:
		return answer{}, &TransportError{Call: k.name, Server: c.base, Err: fmt.Errorf("the answer breaks off after %d bytes: %w", len(body), err)}
	case strings.HasPrefix(res.Header.Get("Content-Type"), "text/html"):
		// The server has no pages at these paths. Taken for its answer, it would make a log that
		// nobody has a delivered one, and a build that runs a cancelled one.
		return answer{}, &AnswerError{Call: k.name, Server: c.base, Err: errors.New("it is a page of HTML, as a proxy shows whose server is away; see that DRONE_RPC_HOST is a Drone server")}
	case len(body) > maxAnswer:
		return answer{}, &TransportError{Call: k.name, Server: c.base, Err: fmt.Errorf("the answer is longer than %d bytes", maxAnswer)}
	}
	return answer{status: res.StatusCode, body: body}, nil
}

// movingReader tells of each byte that comes.
type movingReader struct {
	r     io.Reader
	moved func()
}

func (m *movingReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		m.moved()
	}
	return n, err
}
