package rpctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Violations fetches, and forgets, what no runner should have done. Those that nobody fetches fail
// the test.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := s.wrong
	s.wrong = nil
	return wrong
}

// violation records one.
func (s *Server) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violates(format, args...)
}

// violates is violation for who holds mu.
func (s *Server) violates(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// read decodes the request's body as the real server does, which ignores what it doesn't know, and
// records what it would ignore. A body that is no JSON is answered, 400, and false returned.
func (s *Server) read(c *exchange, into any) bool {
	body, err := io.ReadAll(c.body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		if c.r.Context().Err() == nil {
			s.violation("%s: the body is no JSON of the right shape: %v", c, err)
		}
		c.reply(http.StatusBadRequest, map[string]string{"message": err.Error()})
		return false
	}
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(fresh(into)); err != nil {
		s.violation("%s: %v", c, err)
	}
	return true
}

// String names the call for violations: "PUT /rpc/v2/step/3".
func (c *exchange) String() string { return c.r.Method + " " + c.r.URL.Path }
