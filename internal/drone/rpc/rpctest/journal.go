package rpctest

import (
	"fmt"
	"time"
)

// maxJournalBody is how much of a body the journal keeps.
const maxJournalBody = 64 << 10

// Request is one entry of the journal.
type Request struct {
	// At is when it arrived, Took how long until the answer was complete (0 until then).
	At   time.Time
	Took time.Duration
	// Call is one of the Call constants, empty for a path that the server doesn't know.
	Call   string
	ID     int64
	Method string
	Path   string // with the query
	// Body is what was read of the request's body, its first 64 KiB at most.
	Body []byte
	// Status of the answer, 0 if there was none: cut, or not yet given.
	Status int
	// Fault tells that a fault struck.
	Fault bool
}

// String is the request in one line.
func (r Request) String() string {
	return fmt.Sprintf("%s %s -> %d", r.Method, r.Path, r.Status)
}

// Requests is the journal: every request since the start, in the order of their arrival; those of
// the named calls only, if any is named.
func (s *Server) Requests(calls ...string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.journal {
		wanted := len(calls) == 0
		for _, call := range calls {
			wanted = wanted || r.Call == call
		}
		if wanted {
			out = append(out, r)
		}
	}
	return out
}

func (s *Server) arrived(c *exchange) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = append(s.journal, Request{At: time.Now(), Call: c.call, ID: c.id, Method: c.r.Method, Path: c.r.URL.RequestURI()})
	return len(s.journal) - 1
}

func (s *Server) answered(entry int, c *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.journal[entry]
	e.Took, e.Status, e.Fault = time.Since(e.At), c.status, c.faulty
	s.notify()
}

func (s *Server) sent(entry int, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal[entry].Body = body
}
