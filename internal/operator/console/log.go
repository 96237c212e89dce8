package console

import (
	"strings"
)

// log is the output of one step: it prints its lines behind the step's name, those that come
// together in one piece. One goroutine uses it.
type log struct {
	console *Console
	prefix  string
	// lines are those that are printed with the next Flush.
	lines  strings.Builder
	closed bool
}

// Line takes a line. On a terminal the text before a carriage return, which what follows would
// overwrite, is left out: the step's name stands there. In a file everything is kept.
func (l *log) Line(line []byte) {
	if l.closed {
		return
	}
	text := strings.TrimRight(string(line), "\r\n")
	l.lines.WriteString(l.prefix)
	if l.console.paint {
		text = text[strings.LastIndexByte(text, '\r')+1:]
		if strings.ContainsRune(text, '\x1b') {
			text += reset
		}
	}
	l.lines.WriteString(text + "\n")
	if l.lines.Len() >= flushSize {
		l.Flush()
	}
}

// flushSize is how much is printed in one piece, in bytes.
const flushSize = 64 << 10

// Flush prints the lines so far.
func (l *log) Flush() {
	if l.lines.Len() == 0 {
		return
	}
	l.console.mu.Lock()
	defer l.console.mu.Unlock()
	_, _ = l.console.out.Write([]byte(l.lines.String()))
	l.lines.Reset()
}

// Close prints what is left.
func (l *log) Close() error {
	l.Flush()
	l.closed = true
	return nil
}
