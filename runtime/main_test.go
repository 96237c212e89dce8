package runtime

import (
	"io"
	"testing"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

// TestMain finds goroutines that nobody waited for.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a logger for tests that don't look at the operator's log.
func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}
