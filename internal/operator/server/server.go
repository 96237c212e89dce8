// Package server is the runner's own HTTP server: /healthz, and whatever parts it is given.
//
// The one rule to keep: nothing that goes wrong is found out late. An address that can't be
// listened on is an error before anything else starts, and no client, however slow, keeps the
// server from stopping.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// How long a client may take for its request, an answer may take, and Run waits for answers that
// are under way when it has to stop.
const (
	readTimeout     = 10 * time.Second
	writeTimeout    = 60 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 64 << 10
)

// Part is something that the server serves: a pattern of http.ServeMux and what answers it.
type Part struct {
	Pattern string
	Handler http.Handler
}

// Server listens from New on and answers from Run on.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// New listens at addr (":3000", "127.0.0.1:0"), and fails if that is impossible. The server has
// /healthz and the parts. Call Run, or Close.
func New(addr string, parts ...Part) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen at %s for the runner's own HTTP server: %w: DRONE_HTTP_BIND sets the address", addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	for _, p := range parts {
		mux.Handle(p.Pattern, p.Handler)
	}
	return &Server{
		listener: listener,
		http: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: readTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
		},
	}, nil
}

// Addr is the address that it listens at, with the port that was chosen for port 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run answers until ctx ends, and then for as long as answers are under way, 5 s at most. It
// returns nil when it stopped because it was asked to. It is called once.
func (s *Server) Run(ctx context.Context) error {
	// Handlers see the end of ctx too, so that one that streams lets go.
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP at %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(stop)
	if err != nil {
		// Connections that are left are cut off.
		err = s.http.Close()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if err != nil {
		return fmt.Errorf("stop the HTTP server at %s: %w", s.Addr(), err)
	}
	return nil
}

// Close stops listening, for a server whose Run is never called.
func (s *Server) Close() error { return s.listener.Close() }

// healthz says that the process lives; it asks nothing else, so that a Drone server or a daemon
// that is away doesn't get the runner restarted.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// A client that is gone is no news.
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "ok"})
}
