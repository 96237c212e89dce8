package registryproxy

import (
	"io"
	stdlog "log"
	"strings"

	"github.com/sirupsen/logrus"
)

// DebugLog makes debug lines of log of what a standard server complains about: a client that resets, a bad request line.
func DebugLog(log logrus.FieldLogger) *stdlog.Logger {
	return stdlog.New(lineWriter(func(line string) { log.Debug(line) }), "", 0)
}

type lineWriter func(string)

var _ io.Writer = lineWriter(nil)

// Write hands over a line.
func (f lineWriter) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}
