package rpctest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"time"
)

// Fault says which calls go wrong, and how. Its zero value, with a Status, fails the next call
// whatever it is.
type Fault struct {
	// Call is one of the Call constants, Method an HTTP method, Path a pattern of path.Match for
	// the whole path without its query ("/rpc/v2/step/*/logs/batch"). Empty ones match all.
	Call   string
	Method string
	Path   string

	// Skip leaves the first matching calls alone; Every then strikes each n-th only. Times is how
	// many calls are struck: 0 is one, less is all.
	Skip  int
	Every int
	Times int

	// Delay comes first, and then the end of Hold, unless it is nil. A fault with nothing else lets
	// the call go on after them.
	Delay time.Duration
	Hold  <-chan struct{}
	// Applied has the server do what was asked, before its answer is replaced or cut.
	Applied bool
	// Drop cuts the connection instead of an answer.
	Drop bool
	// Truncate cuts the connection after that many bytes of the real answer's body. It implies
	// Applied.
	Truncate int
	// Status, Header and Body are the answer. Status 0 with a Body is 200.
	Status int
	Header map[string]string
	Body   string
}

type activeFault struct {
	Fault
	seen, struck int
	gone         bool
}

// Fault arms a fault. Of several that match a call, the one armed first strikes. The result disarms
// it.
func (s *Server) Fault(f Fault) (disarm func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &activeFault{Fault: f}
	s.faults = append(s.faults, a)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.gone = true
	}
}

// Faulted is how many calls were struck so far.
func (s *Server) Faulted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.faults {
		n += f.struck
	}
	return n
}

// strike finds the fault for a call. What the call is about is then no more expected to be in
// perfect order.
func (s *Server) strike(c *exchange) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.gone || !f.matches(c) {
			continue
		}
		f.seen++
		limit := f.Times
		if limit == 0 {
			limit = 1
		}
		n := f.seen - f.Skip
		if n <= 0 || limit > 0 && f.struck >= limit || f.Every > 1 && n%f.Every != 0 {
			continue
		}
		f.struck++
		s.disturb(c)
		return &f.Fault
	}
	return nil
}

func (f *Fault) matches(c *exchange) bool {
	if f.Path != "" {
		if ok, err := path.Match(f.Path, c.r.URL.Path); err != nil || !ok {
			return false
		}
	}
	return (f.Call == "" || f.Call == c.call) && (f.Method == "" || f.Method == c.r.Method)
}

// disturb marks the step or stage that a struck call is about. The caller holds mu.
func (s *Server) disturb(c *exchange) {
	switch c.call {
	case CallUpdateStep, CallBatch, CallUpload, CallCard:
		if st := s.steps[c.id]; st != nil {
			st.disturbed = true
			if c.call == CallUpdateStep && st.stage != nil {
				st.stage.disturbed = true
			}
		}
	case CallAccept, CallUpdate:
		if st := s.stages[c.id]; st != nil {
			st.disturbed = true
		}
	}
}

// hold waits for the end of until, and reports whether the runner is still there then. That it has
// left shows only once the body is read.
func hold(c *exchange, until <-chan struct{}) bool {
	body, err := io.ReadAll(c.body)
	c.body = bytes.NewReader(body)
	if err != nil {
		return false
	}
	select {
	case <-until:
	case <-c.r.Context().Done():
	}
	return c.r.Context().Err() == nil
}

// fail lets the fault happen.
func (s *Server) fail(f *Fault, c *exchange, handle func(*Server, *exchange)) {
	if f.Delay > 0 && !pause(c.r, f.Delay) {
		c.hangUp()
	}
	if f.Hold != nil && !hold(c, f.Hold) {
		c.hangUp()
	}
	plain := !f.Drop && f.Truncate == 0 && f.Status == 0 && f.Body == ""
	if handle != nil && plain {
		handle(s, c)
		return
	}
	real := httptest.NewRecorder()
	if handle != nil && (f.Applied || f.Truncate > 0) {
		w := c.w
		c.w = real
		handle(s, c)
		c.w = w
	}
	c.status = 0
	switch {
	case f.Drop:
		c.hangUp()
	case f.Truncate > 0:
		maps.Copy(c.w.Header(), real.Header())
		c.w.Header().Set("Content-Length", strconv.Itoa(real.Body.Len()+1))
		c.w.WriteHeader(real.Code)
		_, _ = c.w.Write(real.Body.Bytes()[:min(f.Truncate, real.Body.Len())])
		_ = http.NewResponseController(c.w).Flush()
		c.hangUp()
	}
	for name, value := range f.Header {
		c.w.Header().Set(name, value)
	}
	c.status = f.Status
	if c.status == 0 {
		c.status = http.StatusOK
	}
	c.w.WriteHeader(c.status)
	_, _ = c.w.Write([]byte(f.Body))
}
