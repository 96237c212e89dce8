package rpctest

import (
	"net/http"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// updateStep is the PUT of a step.
func (s *Server) updateStep(c *exchange) {
	var in drone.Step
	if !s.read(c, &in) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.steps[c.id]
	switch {
	case in.ID != c.id:
		s.violates("%s: the body is about step %d", c, in.ID)
		fallthrough
	case st == nil:
		c.noRows()
		return
	}
	if in.Version == 0 {
		s.violates("%s: step %q has no version", c, st.Name)
	}
	stale := in.Version != st.Version
	if !stale {
		s.checkStep(c, st, &in)
	}
	if rpc.Final(in.Status) {
		st.stream = false // the real one closes the stream whatever becomes of the rest
		if stale {
			c.text(http.StatusInternalServerError, "1 error occurred:\n\t* Optimistic Lock Error\n\n")
			return
		}
	} else {
		st.stream = true // and opens it before it looks at the version
		st.opened = true
		if stale {
			c.lockError()
			return
		}
	}
	st.Status, st.Error, st.ExitCode, st.Started, st.Stopped = in.Status, in.Error, in.ExitCode, in.Started, in.Stopped
	if in.Schema != "" {
		st.Schema = in.Schema
	}
	st.Version++
	s.notify()
	in.Version = st.Version
	c.reply(http.StatusOK, in)
}

// checkStep records what is wrong with an update that isn't stale.
func (s *Server) checkStep(c *exchange, st *step, in *drone.Step) {
	if in.StageID != st.StageID || in.Number != st.Number && !st.renumbered() || in.Name != st.Name {
		s.violates("%s: stage %d, step %d, %q; the server has stage %d, step %d, %q", c,
			in.StageID, in.Number, in.Name, st.StageID, st.Number, st.Name)
	}
	schema := in.Schema != "" && in.Schema != st.Schema && in.Status == st.Status
	if in.Schema != "" && st.card == nil {
		s.violates("%s: step %q has a schema before its card", c, st.Name)
	}
	switch {
	case in.Status == "":
		s.violates("%s: step %q has no status", c, st.Name)
	case rpc.Final(st.Status) && !schema:
		s.violates("%s: step %q is put to %q after its end as %q", c, st.Name, in.Status, st.Status)
	case in.Status == drone.StatusRunning && st.Status == drone.StatusRunning && !schema && !st.disturbed:
		s.violates("%s: step %q is running already", c, st.Name)
	case st.stage.Status != drone.StatusRunning:
		s.violates("%s: step %q is put to %q while its stage is %s", c, st.Name, in.Status, st.stage.Status)
	}
	switch {
	case in.Status == drone.StatusRunning && in.Started == 0:
		s.violates("%s: step %q runs without a start time", c, st.Name)
	case rpc.Final(in.Status) && in.Stopped == 0:
		s.violates("%s: step %q ends as %q without a stop time", c, st.Name, in.Status)
	case (in.Status == drone.StatusPassing || in.Status == drone.StatusFailing) && !rpc.Final(st.Status) && st.Status != drone.StatusRunning && !st.disturbed:
		s.violates("%s: step %q ends as %q and never ran", c, st.Name, in.Status)
	}
}

// renumbered reports whether the step was created once more, after the first creation's answer was
// lost; the runner's number is then its first.
func (st *step) renumbered() bool {
	for _, other := range st.stage.steps {
		if other.abandoned && other.Name == st.Name {
			return true
		}
	}
	return false
}

// card takes the card of a step.
func (s *Server) card(c *exchange) {
	var in drone.CardInput
	if !s.read(c, &in) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.steps[c.id]
	if st == nil {
		c.noRows()
		return
	}
	switch {
	case in.Schema == "" || len(in.Data) == 0:
		s.violates("%s: the card of step %q lacks its schema or data", c, st.Name)
	case st.card != nil && !st.disturbed:
		s.violates("%s: step %q has a card already", c, st.Name)
	case !st.opened:
		s.violates("%s: step %q has not run", c, st.Name)
	}
	st.card = &in
	s.notify()
	c.reply(http.StatusOK, nil)
}

// watch is the long poll for a cancel. A cancel before it began is not told: not of a finished
// build either.
func (s *Server) watch(c *exchange) {
	told := make(chan struct{})
	s.mu.Lock()
	if s.builds[c.id] == nil {
		s.violates("%s: there is no such build", c)
	}
	s.watchers[told] = c.id
	s.notify()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, told)
	}()
	timer := time.NewTimer(s.hold)
	defer timer.Stop()
	select {
	case <-told:
		c.reply(http.StatusOK, nil)
	case <-timer.C:
		c.reply(http.StatusNoContent, nil)
	case <-c.r.Context().Done():
		c.hangUp()
	}
}

// oneLine reports whether the text of a line has no newline but at its end.
func oneLine(text string) bool { return !strings.Contains(strings.TrimSuffix(text, "\n"), "\n") }
