// Package rpctest is a Drone server for tests: it speaks the runner RPC as Drone 2.25 was seen to
// speak it, keeps what it is told in memory, and fails on demand.
//
// The one rule to keep: it is as strict as it is faithful. What a real server would let pass
// although no runner should do it (an unknown field, a batch before its step runs, a stage that
// ends before its steps, a log that differs from its batches) is answered as the real one does and
// recorded as a violation, which fails the test.
package rpctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultSecret is the server's DRONE_RPC_SECRET unless WithSecret says otherwise.
const DefaultSecret = "rpctest-secret"

type (
	// TB is the part of testing.TB that the server needs. Main is one for use outside of tests.
	TB interface {
		Helper()
		Errorf(format string, args ...any)
		Cleanup(func())
	}

	// Option changes a new server.
	Option func(*Server)

	// Server is the fake. All of its methods may be called at any time, from any goroutine.
	Server struct {
		tb      TB
		secret  string
		hold    time.Duration
		noLogs  bool
		address string
		// maxBody is the longest body that is let through; 0 is any.
		maxBody atomic.Int64

		listening struct {
			sync.Mutex
			server *http.Server
			hangUp context.CancelFunc // ends the handlers
			done   chan struct{}      // Serve has returned
		}
		connections sync.WaitGroup
		routes      []route

		mu       sync.Mutex
		changed  chan struct{} // closed, and replaced, at each change of what follows
		ids      struct{ build, stage, step int64 }
		builds   map[int64]*build
		stages   map[int64]*stage
		steps    map[int64]*step
		watchers map[chan struct{}]int64 // the build that each watches
		faults   []*activeFault
		journal  []Request
		wrong    []string
	}
)

// WithSecret sets the secret that runners must present.
func WithSecret(secret string) Option { return func(s *Server) { s.secret = secret } }

// WithHold sets how long Request and Watch are held before an empty 204: 300 ms by default, 30 s at
// a real server.
func WithHold(d time.Duration) Option { return func(s *Server) { s.hold = d } }

// WithAddress sets where to listen; a free port of 127.0.0.1 by default.
func WithAddress(address string) Option { return func(s *Server) { s.address = address } }

// LimitBodies has bodies of more than n bytes refused with 413, as a proxy before the server does;
// 0 lets all through.
func (s *Server) LimitBodies(n int64) { s.maxBody.Store(n) }

// WithoutLogs counts the lines of logs and forgets them, for measurements of memory. What lines say
// is then not checked.
func WithoutLogs() Option { return func(s *Server) { s.noLogs = true } }

// NewServer starts a server. At the end of the test it is stopped, and every violation it saw and
// nobody fetched fails the test.
func NewServer(tb TB, options ...Option) *Server {
	tb.Helper()
	s := &Server{
		tb: tb, secret: DefaultSecret, hold: 300 * time.Millisecond, address: "127.0.0.1:0",
		changed: make(chan struct{}), builds: map[int64]*build{}, stages: map[int64]*stage{}, steps: map[int64]*step{},
		watchers: map[chan struct{}]int64{}, routes: routes(),
	}
	for _, o := range options {
		o(s)
	}
	if err := s.listen(); err != nil {
		tb.Errorf("rpctest: %v", err)
	}
	tb.Cleanup(func() {
		s.Close()
		for _, v := range s.Violations() {
			tb.Errorf("rpctest: violation: %s", v)
		}
	})
	return s
}

// URL is the server's endpoint, as rpc.Options wants it.
func (s *Server) URL() string { return "http://" + s.Host() }

// Host is HOST:PORT, as DRONE_RPC_HOST wants it.
func (s *Server) Host() string {
	s.listening.Lock()
	defer s.listening.Unlock()
	return s.address
}

// Secret is what runners must present.
func (s *Server) Secret() string { return s.secret }

// Down cuts every connection and refuses new ones until Up. What the server knows stays.
func (s *Server) Down() {
	s.listening.Lock()
	server, hangUp, done := s.listening.server, s.listening.hangUp, s.listening.done
	s.listening.server = nil
	s.listening.Unlock()
	if server == nil {
		return
	}
	hangUp()
	_ = server.Close()
	<-done
	s.connections.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.stages {
		st.disturbed = true // any answer may have been lost
		for _, step := range st.steps {
			step.disturbed = true
		}
	}
}

// Up listens again, at the same address.
func (s *Server) Up() {
	s.tb.Helper()
	if err := s.listen(); err != nil {
		s.tb.Errorf("rpctest: %v", err)
	}
}

// Restart is Down, the loss of all live log streams, which a real server keeps in memory only, and
// Up.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Down()
	s.mu.Lock()
	for _, st := range s.steps {
		st.stream = false
	}
	s.mu.Unlock()
	s.Up()
}

// Close stops the server and waits for its handlers. A test needn't call it.
func (s *Server) Close() { s.Down() }

func (s *Server) listen() error {
	s.listening.Lock()
	defer s.listening.Unlock()
	if s.listening.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.address, err)
	}
	s.address = l.Addr().String()
	ctx, hangUp := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.connections.Done()
			}
		},
	}
	done := make(chan struct{})
	s.listening.server, s.listening.hangUp, s.listening.done = server, hangUp, done
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.violation("the server stopped: %v", err)
		}
	}()
	return nil
}

// notify wakes all that wait for a change. The caller holds mu.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits for the condition, which is called with mu held, or the end of the context, whose
// cause it returns.
func (s *Server) until(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := condition(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
