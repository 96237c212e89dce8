package guard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// upstream is the daemon. Every request to it is built here.
type upstream struct {
	socket string
	// calls has connections for what is small, many at once: compose asks for everything that it knows in parallel. streams has those for what is large, whose
	// buffers would take megabytes if all had them.
	calls, streams *http.Transport
	// quiets bounds quiet connections.
	quiets *semaphore.Weighted

	mu       sync.Mutex
	max, min string // API versions that both the daemon and the guard speak
}

// bufferSize is how much a stream moves at a time.
const bufferSize = 128 << 10

func newUpstream(socket string) *upstream {
	u := &upstream{socket: socket, quiets: semaphore.NewWeighted(mostQuiet)}
	u.calls, u.streams = u.transport(128, 8<<10), u.transport(4, bufferSize)
	return u
}

func (u *upstream) transport(idle, buffer int) *http.Transport {
	return &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return u.dial(ctx) },
		DisableCompression:  true,
		MaxIdleConns:        idle,
		MaxIdleConnsPerHost: idle,
		IdleConnTimeout:     30 * time.Second,
		ReadBufferSize:      buffer,
		WriteBufferSize:     buffer,
	}
}

// close closes the connections that are idle.
func (u *upstream) close() {
	u.calls.CloseIdleConnections()
	u.streams.CloseIdleConnections()
}

func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", u.socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the docker daemon: %w", err)
	}
	return conn, nil
}

// outgoing is a request to the daemon, in parts. Nothing of it may be a client's text that hasn't been parsed and checked.
type outgoing struct {
	method string
	// version of the API, "1.41"; empty is the newest that both sides speak.
	version string
	// path without the version, decoded: it's escaped here.
	path   string
	query  url.Values
	header http.Header
	body   io.Reader
	length int64 // of body; -1 if unknown
}

// large tells whether megabytes may come or go: archives and logs.
func (o outgoing) large() bool {
	if o.body != nil && (o.length < 0 || o.length > bufferSize) {
		return true
	}
	switch o.last() {
	case "archive", "export", "get", "logs":
		return o.method == http.MethodGet
	}
	return false
}

// log tells whether a log is asked for, which comes in many small pieces.
func (o outgoing) log() bool { return o.method == http.MethodGet && o.last() == "logs" }

// last is the last segment of the path.
func (o outgoing) last() string { return o.path[strings.LastIndexByte(o.path, '/')+1:] }

func (u *upstream) request(ctx context.Context, o outgoing) (*http.Request, error) {
	if o.version == "" {
		newest, _, err := u.versions(ctx)
		if err != nil {
			return nil, err
		}
		o.version = newest
	}
	target := url.URL{Scheme: "http", Host: "docker", Path: "/v" + o.version + o.path, RawQuery: o.query.Encode()}
	r, err := http.NewRequestWithContext(ctx, o.method, target.String(), o.body)
	if err != nil {
		return nil, fmt.Errorf("ask the docker daemon for %s %s: %w", o.method, o.path, err)
	}
	if o.body != nil {
		r.ContentLength = o.length
	}
	for k, v := range o.header {
		r.Header[k] = v
	}
	return r, nil
}

// do sends a request and returns the answer, whatever its status. The caller closes its body.
func (u *upstream) do(ctx context.Context, o outgoing) (*http.Response, error) {
	if o.log() && u.quiets.TryAcquire(1) {
		return u.quiet(ctx, o, func() { u.quiets.Release(1) })
	}
	r, err := u.request(ctx, o)
	if err != nil {
		return nil, err
	}
	transport := u.calls
	if o.large() {
		transport = u.streams
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask the docker daemon for %s %s: %w", o.method, o.path, err)
	}
	return resp, nil
}

// lookupLimit bounds the answers that the guard reads whole: lists and inspections.
const lookupLimit = 64 << 20

// call sends in as JSON (nil: no body) at the newest version and decodes the answer into out (nil: ignored). A status of 400 and above is a statusError.
func (u *upstream) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	o := outgoing{method: method, path: path, query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request for %s %s: %w", method, path, err)
		}
		o.body, o.length, o.header = bytes.NewReader(b), int64(len(b)), jsonHeader()
	}
	resp, err := u.do(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return answerError(resp)
	}
	if out == nil {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, lookupLimit))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, lookupLimit)).Decode(out); err != nil {
		return fmt.Errorf("read the docker daemon's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// errorLimit bounds the text of an error.
const errorLimit = 1 << 20

// answerError is the daemon's error as a statusError.
func answerError(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, errorLimit))
	if err != nil {
		return fmt.Errorf("read the docker daemon's error: %w", err)
	}
	var m struct{ Message string }
	if json.Unmarshal(b, &m) != nil || m.Message == "" {
		m.Message = strings.TrimSpace(string(b))
	}
	if m.Message == "" {
		m.Message = http.StatusText(resp.StatusCode)
	}
	return statusError{resp.StatusCode, m.Message}
}

// upgrade sends a request that asks for a protocol upgrade on a connection of its own. If the daemon agrees (101), conn is the raw connection, of which resp's headers
// are read and nothing else, and the caller closes it. If it doesn't, conn is nil and resp an ordinary answer whose body the caller closes.
//
// 101 is the only proof that the daemon has left HTTP on this connection. Without it nothing of the client's may be written there: the daemon
// would read it as further requests.
func (u *upstream) upgrade(ctx context.Context, o outgoing, protocol string) (conn *stream, resp *http.Response, err error) {
	r, err := u.request(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	raw, err := u.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (*stream, *http.Response, error) {
		stop()
		return nil, nil, errors.Join(fmt.Errorf("ask the docker daemon for %s %s: %w", o.method, o.path, err), raw.Close())
	}
	if err := r.Write(raw); err != nil {
		return fail(err)
	}
	in := bufio.NewReaderSize(raw, bufferSize)
	resp, err = http.ReadResponse(in, r)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &closing{resp.Body, raw, stop}
		return nil, resp, nil
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return &stream{Conn: raw, in: in}, resp, nil
}

// closing is a body that owns its connection.
type closing struct {
	io.ReadCloser
	conn net.Conn
	stop func() bool
}

// Close closes the connection.
func (c *closing) Close() error {
	c.stop()
	return c.conn.Close()
}

// stream is a raw connection, some of which may have been read ahead.
type stream struct {
	net.Conn
	in *bufio.Reader
}

// Read takes what was read ahead first.
func (s *stream) Read(p []byte) (int, error) {
	if s.in.Buffered() > 0 {
		return s.in.Read(p)
	}
	return s.Conn.Read(p)
}

// CloseWrite ends the direction to the peer: it reads end of file.
func (s *stream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
