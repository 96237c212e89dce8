// Package rpc speaks Drone's runner RPC (base path /rpc/v2) with a Drone server: it fetches work,
// and delivers states, logs and cards.
//
// The one rule to keep: nothing is lost while the server is away. A call that carries something is
// repeated until the server has it, the server refuses it for good, or the context ends; and a
// repetition is recognised by what the server holds, never counted twice.
package rpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"
)

// Defaults of Options.
const (
	// DefaultCallTimeout is longer than a busy server with a SQLite file needs.
	DefaultCallTimeout = 60 * time.Second
	// DefaultPollTimeout is the server's 30 s and half of it again for slow networks.
	DefaultPollTimeout = 45 * time.Second
	// DefaultBackoffInitial and DefaultBackoffMax are the pauses before the second and the later
	// attempts, each jittered by half of it. With dialTimeout they keep every call within 5 s of
	// the return of a server that was away.
	DefaultBackoffInitial = 500 * time.Millisecond
	DefaultBackoffMax     = 2 * time.Second
)

type (
	// Options say where the server is and how patient to be. The zero value of everything but
	// Endpoint and Secret is fine.
	Options struct {
		// Endpoint is PROTO://HOST[:PORT][/PREFIX] of the server, without /rpc/v2. A malformed one
		// is the error of every call.
		Endpoint string
		// Secret is the server's DRONE_RPC_SECRET. It's in no error, log or dump.
		Secret string
		// SkipVerify accepts any TLS certificate.
		SkipVerify bool
		// UserAgent of the requests; "drone-runner-sysbox" by default.
		UserAgent string
		// Log gets a warning for attempts that are going to be repeated; nil is silence.
		Log logrus.FieldLogger
		// Dump gets every request and answer, redacted; nil is none. DumpBody adds the bodies.
		Dump     io.Writer
		DumpBody bool
		// CallTimeout is how long an attempt may stand still: an upload that makes progress may
		// take longer.
		CallTimeout time.Duration
		// PollTimeout is the same for the long polls, Request and Watch. It has to be longer than
		// the server's 30 s.
		PollTimeout time.Duration
		Backoff     Backoff
		// RefusedFor is how long a call is repeated that the server refuses while it does
		// everything else: a log that its store can't take, or a step that its database can't. Then
		// the call fails with a *RefusedError. The time that the server, or its database, is away
		// doesn't count. 0 repeats without limit. The final state of a stage has no limit in any
		// case.
		RefusedFor time.Duration
	}

	// Backoff is the patience between attempts. Pauses double from Initial to Max, each jittered by
	// up to half of it.
	Backoff struct {
		Initial, Max time.Duration
		// Tries limits the attempts of a call; 0 repeats until the context ends.
		Tries uint
	}

	// Client is a runner's connection to the server. It may be used by any number of goroutines at
	// once; what is passed to a call is the call's until it returns.
	Client struct {
		base  string
		bad   error // of a malformed endpoint
		opts  Options
		http  *http.Client
		dump  *dumper
		log   logrus.FieldLogger
		watch time.Duration // how long a watch must stand, after a failure, to count as restored
	}
)

var _ client.Client = (*Client)(nil)

// New makes a client. It sends nothing; Ping reports whether the server answers and knows the
// secret.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "drone-runner-sysbox"
	}
	if o.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		o.Log = silent
	}
	setDefault(&o.CallTimeout, DefaultCallTimeout)
	setDefault(&o.PollTimeout, DefaultPollTimeout)
	setDefault(&o.Backoff.Initial, DefaultBackoffInitial)
	setDefault(&o.Backoff.Max, DefaultBackoffMax)
	c := &Client{opts: o, log: o.Log, http: newHTTPClient(o.SkipVerify), watch: time.Second}
	c.base, c.bad = parseEndpoint(o.Endpoint)
	if o.Dump != nil {
		c.dump = &dumper{w: o.Dump, bodies: o.DumpBody, secret: o.Secret}
	}
	return c
}

// Close lets go of idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// parseEndpoint checks the server's address and returns it without a slash at its end.
func parseEndpoint(endpoint string) (string, error) {
	const want = "want PROTO://HOST[:PORT], made of DRONE_RPC_PROTO and DRONE_RPC_HOST"
	u, err := url.Parse(endpoint)
	if err != nil {
		// url.Error repeats the address, which may hold a password.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return "", fmt.Errorf("the address of the Drone server is malformed: %w; %s", err, want)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the address of the Drone server, %q, is neither http nor https; %s", u.Redacted(), want)
	case u.Hostname() == "":
		return "", fmt.Errorf("the address of the Drone server, %q, names no host; %s", u.Redacted(), want)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the address of the Drone server, %q, has a query or a fragment; %s", u.Redacted(), want)
	}
	return strings.TrimRight(u.String(), "/"), nil
}
