package runtime

import (
	"bytes"
	"strings"
	"sync"
)

// The last of a service's log that is shown elsewhere: how many lines, and how many bytes of each.
const (
	tailLines = 10
	tailBytes = 512
)

// tail keeps the last lines of a log, for the log of another step. It may be used concurrently.
type tail struct {
	mu    sync.Mutex
	lines []string
	// open is the line that has no end yet; what is over tailBytes of it is dropped.
	open []byte
}

// add takes text that was logged, secrets masked.
func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		t.open = append(t.open, line[:min(len(line), tailBytes-len(t.open))]...)
		p = rest
		if !ended {
			return
		}
		t.lines = append(t.lines, string(t.open))
		t.lines = t.lines[max(len(t.lines)-tailLines, 0):]
		t.open = t.open[:0]
	}
}

// of are the lines, indented below the name of the step whose they are.
func (t *tail) of(step string) []string {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if len(t.open) > 0 {
		lines = append(lines[max(len(lines)-tailLines+1, 0):len(lines):len(lines)], string(t.open))
	}
	var out []string
	for _, line := range lines {
		out = append(out, "  "+step+": "+strings.TrimRight(line, "\r"))
	}
	return out
}

// tailed is a log whose last lines are kept. Log may be nil.
type tailed struct {
	Log
	tail *tail
}

// Write logs p.
func (t *tailed) Write(p []byte) (int, error) {
	t.tail.add(p)
	if t.Log == nil {
		return len(p), nil
	}
	return t.Log.Write(p)
}

// Close closes the log.
func (t *tailed) Close() error {
	if t.Log == nil {
		return nil
	}
	return t.Log.Close()
}
