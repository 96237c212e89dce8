package runtime

import (
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

// TestMain finds goroutines that nobody waited for.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPatience is how long a test waits for something that should take seconds.
const testPatience = 5 * time.Minute

// quiet is a logger for tests that don't look at the operator's log.
func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}
