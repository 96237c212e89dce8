// Package dockerd is the guard's way to the Docker daemon: requests, upgraded connections, versions
// of the API, and the copying of answers.
//
// The one rule to keep: it knows no policy, and nothing in a Request is a client's text that hasn't
// been parsed and checked.
package dockerd

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

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
)

// Daemon is the daemon. Every request to it is built here.
type Daemon struct {
	socket string
	// speaks are the versions of the API that the guard knows.
	speaks apiversion.Range
	// calls has connections for what is small, many at once: compose asks for everything that it
	// knows in parallel. streams has those for what is large, whose buffers would take megabytes if
	// all had them.
	calls, streams *http.Transport
	// quiets bounds quiet connections.
	quiets *semaphore.Weighted

	mu       sync.Mutex
	max, min string // API versions that both the daemon and the guard speak
}

// BufferSize is how much a stream moves at a time.
const BufferSize = 128 << 10

// New returns the daemon behind the socket. It speaks to it in the versions of the range.
func New(socket string, speaks apiversion.Range) *Daemon {
	u := &Daemon{socket: socket, speaks: speaks, quiets: semaphore.NewWeighted(mostQuiet)}
	u.calls, u.streams = u.transport(128, 8<<10), u.transport(4, BufferSize)
	return u
}

func (u *Daemon) transport(idle, buffer int) *http.Transport {
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

// Close closes the connections that are idle.
func (u *Daemon) Close() {
	u.calls.CloseIdleConnections()
	u.streams.CloseIdleConnections()
}

func (u *Daemon) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", u.socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the docker daemon: %w", err)
	}
	return conn, nil
}

// Request is a request to the daemon, in parts. Nothing of it may be a client's text that hasn't
// been parsed and checked.
type Request struct {
	Method string
	// Version of the API, "1.41"; empty is the newest that both sides speak.
	Version string
	// Path without the version, decoded: it's escaped here.
	Path   string
	Query  url.Values
	Header http.Header
	Body   io.Reader
	Length int64 // of body; -1 if unknown
}

// large reports whether megabytes may come or go: archives and logs.
func (o Request) large() bool {
	if o.Body != nil && (o.Length < 0 || o.Length > BufferSize) {
		return true
	}
	switch o.last() {
	case "archive", "export", "get", "logs":
		return o.Method == http.MethodGet
	}
	return false
}

// log reports whether a log is asked for, which comes in many small pieces.
func (o Request) log() bool { return o.Method == http.MethodGet && o.last() == "logs" }

// last returns the last segment of the path.
func (o Request) last() string { return o.Path[strings.LastIndexByte(o.Path, '/')+1:] }

func (u *Daemon) request(ctx context.Context, o Request) (*http.Request, error) {
	if o.Version == "" {
		newest, _, err := u.Versions(ctx)
		if err != nil {
			return nil, err
		}
		o.Version = newest
	}
	target := url.URL{Scheme: "http", Host: "docker", Path: "/v" + o.Version + o.Path, RawQuery: o.Query.Encode()}
	r, err := http.NewRequestWithContext(ctx, o.Method, target.String(), o.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the docker daemon for %s %s: %w", o.Method, o.Path, err)
	}
	if o.Body != nil {
		r.ContentLength = o.Length
	}
	for k, v := range o.Header {
		r.Header[k] = v
	}
	return r, nil
}

// Do sends a request and returns the answer, whatever its status. The caller closes its body.
func (u *Daemon) Do(ctx context.Context, o Request) (*http.Response, error) {
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
		return nil, fmt.Errorf("ask the docker daemon for %s %s: %w", o.Method, o.Path, err)
	}
	return resp, nil
}

// lookupLimit bounds the answers that the guard reads whole: lists and inspections.
const lookupLimit = 64 << 20

// Call sends in as JSON (nil: no body) at the newest version and decodes the answer into out (nil:
// ignored). A status of 400 and above is a statusError.
func (u *Daemon) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	o := Request{Method: method, Path: path, Query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request for %s %s: %w", method, path, err)
		}
		o.Body, o.Length, o.Header = bytes.NewReader(b), int64(len(b)), JSONHeader()
	}
	resp, err := u.Do(ctx, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return AnswerError(resp)
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

// Raw returns the body of a successful answer.
func (u *Daemon) Raw(ctx context.Context, out Request) ([]byte, error) {
	resp, err := u.Do(ctx, out)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return nil, AnswerError(resp)
	}
	return ReadAll(resp.Body)
}

// JSONHeader returns the header of a JSON body.
func JSONHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// errorLimit bounds the text of an error.
const errorLimit = 1 << 20

// AnswerError is the daemon's error as a statusError.
func AnswerError(resp *http.Response) error {
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
	return apierror.New(resp.StatusCode, m.Message)
}

// Upgrade sends a request that asks for a protocol upgrade on a connection of its own. If the
// daemon agrees (101), conn is the raw connection, of which resp's headers are read and nothing
// else, and the caller closes it. If it doesn't, conn is nil and resp an ordinary answer whose body
// the caller closes.
//
// 101 is the only proof that the daemon has left HTTP on this connection. Without it nothing of the
// client's may be written there: the daemon would read it as further requests.
func (u *Daemon) Upgrade(
	ctx context.Context,
	o Request,
	protocol string,
) (conn *Stream, resp *http.Response, err error) {
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
	fail := func(err error) (*Stream, *http.Response, error) {
		stop()
		return nil, nil, errors.Join(
			fmt.Errorf("ask the docker daemon for %s %s: %w", o.Method, o.Path, err),
			raw.Close(),
		)
	}
	if err := r.Write(raw); err != nil {
		return fail(err)
	}
	in := bufio.NewReaderSize(raw, BufferSize)
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
	return NewStream(raw, in), resp, nil
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

// Stream is a raw connection, some of which may have been read ahead.
type Stream struct {
	net.Conn
	in *bufio.Reader
}

// NewStream returns a connection of which in has read some.
func NewStream(conn net.Conn, in *bufio.Reader) *Stream { return &Stream{Conn: conn, in: in} }

// Read takes what was read ahead first.
func (s *Stream) Read(p []byte) (int, error) {
	if s.in.Buffered() > 0 {
		return s.in.Read(p)
	}
	return s.Conn.Read(p)
}

// CloseWrite ends the direction to the peer: it reads end of file.
func (s *Stream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
