package rpctest

import (
	"context"
	"slices"
	"strings"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

type (
	// Result is what the server holds of a build. It is a copy.
	Result struct {
		Build  drone.Build
		Stages []StageResult
	}

	// StageResult is a stage, without the steps in its Stage.
	StageResult struct {
		drone.Stage
		Steps []StepResult
	}

	// StepResult is a step with what it delivered.
	StepResult struct {
		drone.Step
		// Live are the lines of its batches, Log those of its upload. With WithoutLogs both are
		// empty.
		Live []drone.Line
		Log  []drone.Line
		// Uploaded reports whether there was an upload; Lines and Bytes measure it.
		Uploaded bool
		Lines    int
		Bytes    int64
		Card     *drone.CardInput
	}
)

// Wait waits until the server has the final state of every stage of the build, or the context ends.
// After a Cancel that is at once, while a runner may still deliver logs.
func (s *Server) Wait(ctx context.Context, id int64) (Result, error) {
	err := s.until(ctx, func() bool {
		b := s.builds[id]
		return b != nil && !slices.ContainsFunc(b.stages, func(st *stage) bool { return !rpc.Final(st.Status) })
	})
	return s.Result(id), err
}

// Until waits for a condition on the build's state, which is called after every change, or the end
// of the context, whose cause it returns. The condition must not call the server.
func (s *Server) Until(ctx context.Context, id int64, condition func(Result) bool) error {
	return s.until(ctx, func() bool { return condition(s.result(id)) })
}

// Result is the state of the build now; zero if there is none of that id.
func (s *Server) Result(id int64) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result(id)
}

func (s *Server) result(id int64) Result {
	b := s.builds[id]
	if b == nil {
		return Result{}
	}
	r := Result{Build: b.Build}
	for _, st := range b.stages {
		sr := StageResult{Stage: st.Stage}
		for _, step := range st.steps {
			if !step.abandoned {
				sr.Steps = append(sr.Steps, s.stepResult(step))
			}
		}
		r.Stages = append(r.Stages, sr)
	}
	return r
}

func (s *Server) stepResult(st *step) StepResult {
	r := StepResult{Step: st.Step, Log: st.log, Uploaded: st.uploaded, Lines: st.lines, Bytes: st.bytes, Card: st.card}
	if !s.noLogs {
		r.Live = slices.Clone(st.live)
	}
	return r
}

// Log is the text of the step's log: the upload, or before it what was sent live.
func (s *Server) Log(id int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.steps[id]
	if st == nil {
		return ""
	}
	r := s.stepResult(st)
	return r.Text()
}

// Watching tells how many watch the build at this moment.
func (s *Server) Watching(build int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, id := range s.watchers {
		if id == build {
			n++
		}
	}
	return n
}

// Step finds a step of the build by its name; nil if there is none.
func (r Result) Step(name string) *StepResult {
	for i := range r.Stages {
		for j := range r.Stages[i].Steps {
			if step := &r.Stages[i].Steps[j]; step.Name == name {
				return step
			}
		}
	}
	return nil
}

// Stage finds a stage of the build by its name; nil if there is none.
func (r Result) Stage(name string) *StageResult {
	for i := range r.Stages {
		if r.Stages[i].Name == name {
			return &r.Stages[i]
		}
	}
	return nil
}

// Text is the step's log as one text: the upload, or before it what was sent live.
func (r *StepResult) Text() string {
	lines := r.Log
	if !r.Uploaded {
		lines = r.Live
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line.Message)
	}
	return b.String()
}
