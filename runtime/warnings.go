package runtime

import "sync"

// warnings are what went wrong with services, until a step's log can tell it. A failed service
// doesn't fail its stage, so the log of the step that meets its absence is the place where a reader
// looks.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

// add keeps lines for the next log.
func (w *warnings) add(lines ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, lines...)
}

// take are the lines that no log has had yet.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	return lines
}
