package rpctest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// request is the long poll for work.
func (s *Server) request(c *exchange) {
	var filter client.Filter
	if !s.read(c, &filter) {
		return
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), s.hold)
	defer cancel()
	var found *wireStage
	var wake *time.Timer // a stage that is out on offer comes back by time, not by a change
	defer func() {
		if wake != nil {
			wake.Stop()
		}
	}()
	_ = s.until(ctx, func() bool {
		for _, id := range slices.Sorted(maps.Keys(s.stages)) {
			st := s.stages[id]
			if st.Status != drone.StatusPending || st.Machine != "" || !st.matches(&filter) {
				continue
			}
			if left := reoffer - time.Since(st.offered); left > 0 {
				if wake == nil {
					wake = time.AfterFunc(left, func() {
						s.mu.Lock()
						defer s.mu.Unlock()
						s.notify()
					})
				}
				continue
			}
			st.offered = time.Now()
			w := st.wire()
			found = &w
			return true
		}
		return false
	}) // the time is up: nothing there
	switch {
	case c.r.Context().Err() != nil:
		c.hangUp()
	case found == nil:
		c.reply(http.StatusNoContent, nil)
	default:
		c.reply(http.StatusOK, found)
	}
}

// matches reports whether the runner that asks may have the stage: labels match as a whole, the
// platform if the runner names one.
func (st *stage) matches(f *client.Filter) bool {
	if or(f.Kind, "pipeline") != st.Kind || or(f.Type, "docker") != st.Type {
		return false
	}
	anywhere := f.OS == "" && f.Arch == "" && f.Variant == "" && f.Kernel == ""
	if !anywhere && (f.OS != st.OS || f.Arch != st.Arch || f.Variant != st.Variant || f.Kernel != st.Kernel) {
		return false
	}
	return len(f.Labels) == len(st.Labels) && maps.Equal(f.Labels, st.Labels)
}

// accept gives a stage to a machine.
func (s *Server) accept(c *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stages[c.id]
	machine := c.r.URL.Query().Get("machine")
	switch {
	case machine == "":
		s.violates("%s: no machine is named", c)
		fallthrough
	case st == nil:
		c.noRows()
		return
	case st.Machine != "" || rpc.Final(st.Status):
		c.lockError()
		return
	case st.offered.IsZero():
		s.violates("%s: the stage was never offered", c)
	}
	st.Machine, st.Updated = machine, now()
	st.Version++
	s.notify()
	c.reply(http.StatusOK, st.wire())
}

// detail is all that a runner needs to know.
func (s *Server) detail(c *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stages[c.id]
	if st == nil {
		c.noRows()
		return
	}
	b := st.build
	d := wireDetail{
		Build: wireBuild{Build: b.Build, Debug: b.Debug}, Stage: st.wire(), Config: wireConfig{Data: b.config}, Netrc: b.netrc,
		System: &drone.System{Proto: "http", Host: "drone.example.com", Link: "http://drone.example.com", Version: "2.25.0"},
		Repo:   wireRepo{Repo: b.repo, Throttle: b.repo.Throttle},
	}
	for _, other := range b.stages {
		d.Build.Stages = append(d.Build.Stages, other.wire())
	}
	for i, secret := range b.secrets {
		d.Secrets = append(d.Secrets, wireSecret{ID: int64(i + 1), RepoID: b.RepoID, Secret: *secret})
	}
	c.reply(http.StatusOK, d)
}

// update is the PUT of a stage. The answer is what was put, with the ids and versions that the
// server gave.
func (s *Server) update(c *exchange) {
	var in drone.Stage
	if !s.read(c, &in) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stages[c.id]
	switch {
	case in.ID != c.id:
		s.violates("%s: the body is about stage %d", c, in.ID)
		fallthrough
	case st == nil:
		c.noRows()
		return
	}
	if in.Version == 0 {
		s.violates("%s: the stage has no version", c)
	}
	if slices.Contains(in.Steps, nil) {
		s.violates("%s: a step is null", c)
		in.Steps = slices.DeleteFunc(in.Steps, func(step *drone.Step) bool { return step == nil })
	}
	stale := in.Version != st.Version
	if !stale {
		s.checkStage(c, st, &in)
	}
	var ok bool
	if rpc.Final(in.Status) {
		ok = s.end(c, st, &in, stale)
	} else {
		ok = s.begin(c, st, &in, stale)
	}
	if !ok {
		return
	}
	st.Status, st.Error, st.ExitCode, st.Started, st.Stopped = in.Status, in.Error, in.ExitCode, in.Started, in.Stopped
	st.Version++
	st.Updated = now()
	if rpc.Final(st.Status) {
		st.build.settle()
	} else {
		st.build.Status, st.build.Started = st.Status, cmp.Or(st.build.Started, now())
	}
	s.notify()
	in.Version, in.Updated = st.Version, st.Updated
	c.reply(http.StatusOK, wireStage{Stage: in})
}

// checkStage records what is wrong with an update that isn't stale.
func (s *Server) checkStage(c *exchange, st *stage, in *drone.Stage) {
	if st.Machine == "" {
		s.violates("%s: stage %q was never accepted", c, st.Name)
	}
	if in.Machine != st.Machine {
		s.violates("%s: the machine is %q, the stage was accepted for %q", c, in.Machine, st.Machine)
	}
	if in.BuildID != st.BuildID || in.Name != st.Name || in.Number != st.Number {
		s.violates("%s: build %d, stage %d, %q; the server has build %d, stage %d, %q", c,
			in.BuildID, in.Number, in.Name, st.BuildID, st.Number, st.Name)
	}
	switch {
	case rpc.Final(st.Status):
		s.violates("%s: stage %q is put to %q after its end as %q", c, st.Name, in.Status, st.Status)
	case in.Status == "":
		s.violates("%s: stage %q has no status", c, st.Name)
	case in.Status == drone.StatusRunning && st.Status == drone.StatusRunning && !st.disturbed:
		s.violates("%s: stage %q is running already", c, st.Name)
	}
	switch {
	case in.Status == drone.StatusRunning && in.Started == 0:
		s.violates("%s: stage %q runs without a start time", c, st.Name)
	case rpc.Final(in.Status) && in.Stopped == 0:
		s.violates("%s: stage %q ends as %q without a stop time", c, st.Name, in.Status)
	case rpc.Final(in.Status) && in.Status != drone.StatusSkipped && in.Started == 0:
		s.violates("%s: stage %q ends as %q without a start time", c, st.Name, in.Status)
	}
}

// begin takes a stage that isn't final, and creates its steps. It answers, and returns false, when
// that fails. The caller holds mu.
func (s *Server) begin(c *exchange, st *stage, in *drone.Stage, stale bool) bool {
	if stale {
		c.lockError()
		return false
	}
	for i, put := range in.Steps {
		if st.steps == nil && put.Number != i+1 {
			s.violates("%s: step %q has the number %d, not %d", c, put.Name, put.Number, i+1)
		}
		if put.Name == "" || put.Status != drone.StatusPending || put.StageID != st.ID || put.Version != 0 || put.ID != 0 {
			s.violates("%s: a new step has a name, status pending, the id of its stage in step_id, neither id nor version; not %+v", c, *put)
		}
		if slices.ContainsFunc(st.steps, func(other *step) bool { return other.Number == put.Number }) {
			// As the real one: the stage is changed by now, and stays so.
			st.Version++
			c.text(http.StatusInternalServerError, "UNIQUE constraint failed: steps.step_stage_id, steps.step_number")
			return false
		}
	}
	for _, old := range st.steps {
		old.abandoned = old.abandoned || len(in.Steps) > 0
	}
	for _, put := range in.Steps {
		s.ids.step++
		put.ID, put.StageID, put.Version = s.ids.step, st.ID, 1
		created := &step{Step: *put, stage: st, last: -1}
		st.steps = append(st.steps, created)
		s.steps[put.ID] = created
	}
	return true
}

// end takes the final state of a stage and of its steps. It answers, and returns false, when that
// fails. The caller holds mu.
func (s *Server) end(c *exchange, st *stage, in *drone.Stage, stale bool) bool {
	for _, put := range in.Steps {
		have := s.steps[put.ID]
		switch {
		case put.ID == 0 && !stale:
			s.violates("%s: step %q has no id", c, put.Name)
			fallthrough
		case have == nil || have.stage != st || have.Version != put.Version:
			c.lockError() // the real one changes the steps before the stage, and sees here that one is stale
			return false
		}
		if rpc.Final(have.Status) && have.Status != put.Status && !stale {
			s.violates("%s: step %q is put to %q after its end as %q", c, put.Name, put.Status, have.Status)
		}
		have.Status, have.Error, have.ExitCode, have.Started, have.Stopped = put.Status, put.Error, put.ExitCode, put.Started, put.Stopped
		have.Version++
		put.Version = have.Version
	}
	if stale {
		c.lockError()
		return false
	}
	var open []string
	for _, step := range st.steps {
		if step.abandoned {
			continue
		}
		if !rpc.Final(step.Status) {
			open = append(open, fmt.Sprintf("step %q is %s", step.Name, step.Status))
		}
		if len(step.live) > 0 && !step.uploaded && !step.disturbed {
			open = append(open, fmt.Sprintf("the log of step %q was not uploaded", step.Name))
		}
		step.stream = false
	}
	if len(open) > 0 {
		s.violates("%s: stage %q ends as %q and %s", c, st.Name, in.Status, strings.Join(open, ", "))
	}
	return true
}
