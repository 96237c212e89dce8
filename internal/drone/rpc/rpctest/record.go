package rpctest

import (
	"net/http"
	"strings"

	"github.com/drone/drone-go/drone"
)

type (
	// wireRecord is a build as people see it: with the steps of its stages.
	wireRecord struct {
		drone.Build
		Stages []wireRecordStage `json:"stages,omitempty"`
	}

	wireRecordStage struct {
		wireStage
		Steps []drone.Step `json:"steps,omitempty"`
	}
)

// record is the build in the API for people. Those of public repositories need no token, and a
// runner has none for the others.
func (s *Server) record(c *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.builds[c.id]
	if b == nil || b.repo.Visibility != "public" || !strings.HasPrefix(c.r.URL.Path, "/api/repos/"+b.repo.Slug+"/") {
		c.reply(http.StatusUnauthorized, map[string]string{"message": "Unauthorized"})
		return
	}
	out := wireRecord{Build: b.Build}
	for _, st := range b.stages {
		ws := wireRecordStage{wireStage: st.wire()}
		for _, step := range st.steps {
			ws.Steps = append(ws.Steps, step.Step)
		}
		out.Stages = append(out.Stages, ws)
	}
	c.reply(http.StatusOK, out)
}
