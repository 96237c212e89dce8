package runtime

import (
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
)

// A clock that is set back while a stage runs makes nothing end before it began: neither in this
// life nor, if it is killed, in the next.
func TestClockIsSetBack(t *testing.T) {
	later := time.Now().Add(time.Hour).Unix() // when everything began, as the clock had it then
	s := NewState(nil, &drone.Stage{ID: 1}, specOf(step("a"), step("b"), step("c")))
	s.begin()
	s.start("a")
	s.start("b")
	s.stage.Started, s.steps["a"].Started, s.steps["b"].Started = later, later, later
	s.finish("a", 0)
	s.fail("b", ErrStopped)
	s.skip("c", nil)
	stage := s.end(nil)
	if stage.Stopped < stage.Started {
		t.Errorf("the stage ended %d s before it began", stage.Started-stage.Stopped)
	}
	for _, step := range stage.Steps {
		if step.Started == 0 || step.Stopped < step.Started {
			t.Errorf("step %s ran from %d to %d", step.Name, step.Started, step.Stopped)
		}
	}

	at := now()
	running := drone.Step{Status: drone.StatusRunning, Started: later}
	interrupt(&running, drone.Stage{Status: drone.StatusRunning}, at)
	var there drone.Stage
	conclude(&there, drone.Stage{Status: drone.StatusRunning, Started: later}, at)
	if running.Stopped < running.Started || there.Stopped < there.Started {
		t.Errorf("interrupted: the step ran from %d to %d, its stage to %d", running.Started, running.Stopped, there.Stopped)
	}
}
