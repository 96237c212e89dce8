package syscont

import (
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// tailLines is how many of the daemon's last lines are kept for the error of its death.
const tailLines = 12

// tail keeps the last lines that were added; of a crash the first ones, which say why, and not the
// end of what else Go prints then.
type tail struct {
	mu      sync.Mutex
	kept    []string
	crashed bool
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.crashed && crash(line) {
		t.kept, t.crashed = nil, true
	}
	if len(t.kept) == tailLines {
		if t.crashed {
			return
		}
		copy(t.kept, t.kept[1:])
		t.kept = t.kept[:tailLines-1]
	}
	t.kept = append(t.kept, line)
}

// crash reports whether a line is the first of a Go program's crash.
func crash(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.kept...)
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept, t.crashed = nil, false
}

// parseLogfmt takes the level and the rest out of a line of dockerd's or containerd's log (time="…"
// level=info msg="…" key=value). A line of another form, a panic for one, is a warning as it
// stands.
func parseLogfmt(line string) (logrus.Level, string) {
	rest, ok := strings.CutPrefix(line, "time=")
	if !ok {
		return logrus.WarnLevel, line
	}
	_, rest = cutValue(rest)
	rest, ok = strings.CutPrefix(rest, "level=")
	if !ok {
		return logrus.WarnLevel, line
	}
	name, rest := cutValue(rest)
	level, err := logrus.ParseLevel(name)
	if err != nil {
		return logrus.WarnLevel, line
	}
	if level < logrus.ErrorLevel {
		level = logrus.ErrorLevel // a fatal error of the daemon's is none of ours
	}
	msg, ok := strings.CutPrefix(rest, "msg=")
	if !ok {
		return level, rest
	}
	text, fields := cutValue(msg)
	if everyday(text) {
		level = logrus.DebugLevel
	}
	if fields != "" {
		text += " (" + fields + ")"
	}
	return level, text
}

// everyday reports whether a warning is one that every build causes: they would teach an operator
// not to read warnings.
func everyday(text string) bool {
	// containerd says so at the end of each container.
	return strings.HasPrefix(text, "cleaning up after shim disconnected")
}

// cutValue takes a value, quoted or not, off the head, and the space behind it.
func cutValue(s string) (value, rest string) {
	if quoted, err := strconv.QuotedPrefix(s); err == nil {
		if v, err := strconv.Unquote(quoted); err == nil {
			return v, strings.TrimPrefix(s[len(quoted):], " ")
		}
	}
	value, rest, _ = strings.Cut(s, " ")
	return value, rest
}

// logTo logs at a level. dockerd's info is our debug: an operator who looks at the runner's log
// looks for builds.
func logTo(log logrus.FieldLogger, level logrus.Level, msg string) {
	switch level {
	case logrus.ErrorLevel:
		log.Error(msg)
	case logrus.WarnLevel:
		log.Warn(msg)
	default:
		log.Debug(msg)
	}
}
