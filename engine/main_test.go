package engine_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

var _ runtime.Engine = (*engine.Docker)(nil)

// No goroutine of the engine outlives the calls that need it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
