package rpctest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// longest is the highest time of a line, in seconds since the step began, that can be meant: a
// higher one is a date.
const longest = 10 * 24 * 3600

// batch takes lines for those who watch.
func (s *Server) batch(c *exchange) {
	var lines []*drone.Line
	if !s.read(c, &lines) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.steps[c.id]
	if st == nil || !st.stream {
		if st == nil || !st.opened {
			s.violates("%s: lines before the step runs", c)
		} else if rpc.Final(st.Status) && !rpc.Final(st.stage.Status) && !st.disturbed {
			s.violates("%s: lines after step %q ended as %q", c, st.Name, st.Status)
		}
		c.text(http.StatusInternalServerError, "stream: not found")
		return
	}
	if len(lines) == 0 {
		s.violates("%s: no lines", c)
	}
	for _, line := range lines {
		if line == nil {
			s.violates("%s: a line is null", c)
			continue
		}
		if line.Number <= st.last && !st.disturbed {
			s.violates("%s: step %q: line %d comes after line %d", c, st.Name, line.Number, st.last)
		}
		if n := len(st.live); n > 0 && st.live[n-1].Number+1 == line.Number && !strings.HasSuffix(st.live[n-1].Message, "\n") {
			s.violates("%s: step %q: line %d has no newline and isn't the last", c, st.Name, st.live[n-1].Number)
		}
		s.checkLine(c, st, line)
		st.last = max(st.last, line.Number)
		if s.noLogs {
			st.live = st.live[:0]
		}
		st.live = append(st.live, *line)
	}
	s.notify()
	c.reply(http.StatusOK, nil)
}

// upload takes the whole log, once.
func (s *Server) upload(c *exchange) {
	s.mu.Lock()
	st := s.steps[c.id]
	s.mu.Unlock()
	log, count, size, err := s.readLog(c, st)
	if err != nil {
		if c.r.Context().Err() == nil {
			s.violation("%s: the body is no JSON list of lines: %v", c, err)
		}
		c.reply(http.StatusBadRequest, map[string]string{"message": err.Error()})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st == nil:
		c.noRows()
		return
	case st.uploaded:
		if !st.disturbed {
			s.violates("%s: the log of step %q is there already", c, st.Name)
		}
		c.text(http.StatusInternalServerError, "UNIQUE constraint failed: logs.log_id")
		return
	case !st.opened:
		s.violates("%s: a log of step %q, which has not run", c, st.Name)
	case rpc.Final(st.stage.Status) && st.stage.build.Status != drone.StatusKilled:
		s.violates("%s: the log of step %q comes after the end of its stage", c, st.Name)
	}
	st.log, st.lines, st.bytes, st.uploaded = log, count, size, true
	if !s.noLogs {
		s.compare(c, st)
	}
	s.notify()
	c.reply(http.StatusOK, nil)
}

// readLog reads the lines of an upload one by one, however many there are.
func (s *Server) readLog(c *exchange, st *step) (log []drone.Line, count int, size int64, err error) {
	dec := json.NewDecoder(c.body)
	dec.DisallowUnknownFields()
	if token, err := dec.Token(); err != nil {
		return nil, 0, 0, err
	} else if token != json.Delim('[') {
		return nil, 0, 0, fmt.Errorf("it begins with %v", token)
	}
	last := drone.Line{Number: -1, Message: "\n"}
	for dec.More() {
		var line drone.Line
		if err := dec.Decode(&line); err != nil {
			return nil, 0, 0, err
		}
		if st != nil {
			s.mu.Lock()
			if line.Number <= last.Number {
				s.violates("%s: step %q: line %d comes after line %d", c, st.Name, line.Number, last.Number)
			}
			if !strings.HasSuffix(last.Message, "\n") {
				s.violates("%s: step %q: line %d has no newline and isn't the last", c, st.Name, last.Number)
			}
			s.checkLine(c, st, &line)
			s.mu.Unlock()
		}
		last = line
		count++
		size += int64(len(line.Message))
		if !s.noLogs {
			log = append(log, line)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, 0, 0, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, 0, errors.New("something follows the list")
	}
	return log, count, size, nil
}

// checkLine records what is wrong with one line. The caller holds mu.
func (s *Server) checkLine(c *exchange, st *step, line *drone.Line) {
	switch {
	case !oneLine(line.Message):
		s.violates("%s: step %q: line %d is more than one line: %.80q", c, st.Name, line.Number, line.Message)
	case line.Message == "":
		s.violates("%s: step %q: line %d is nothing at all", c, st.Name, line.Number)
	case line.Timestamp < 0 || line.Timestamp > longest:
		s.violates("%s: step %q: line %d has the time %d, which isn't in seconds since the step began", c, st.Name, line.Number, line.Timestamp)
	}
}

// compare records where the log differs from its batches. A log that was shortened, so that numbers
// past the cut may mean other lines, is compared up to the first difference. The caller holds mu.
func (s *Server) compare(c *exchange, st *step) {
	if len(st.live) == 0 {
		return
	}
	whole := map[int]string{}
	for _, line := range st.log {
		whole[line.Number] = line.Message
	}
	shortened := len(st.log) <= st.last
	for _, line := range st.live {
		text, ok := whole[line.Number]
		if ok && text == line.Message {
			continue
		}
		if !shortened {
			s.violates("%s: step %q: line %d was %.80q when it was sent live, and is %.80q in the log", c, st.Name, line.Number, line.Message, text)
		}
		return
	}
}
