package console

import (
	"bytes"
	"os"
	"strings"
)

// maxLine is how much of a line without an end is held back before it is printed as it is, in bytes.
const maxLine = 64 << 10

// log is the output of one step: it prints whole lines behind the step's name. One writer at a time.
type log struct {
	console *Console
	prefix  string
	held    []byte
	closed  bool
}

// Write prints the lines that are complete and holds back the rest. It fails after Close alone.
func (l *log) Write(p []byte) (int, error) {
	if l.closed {
		return 0, os.ErrClosed
	}
	l.held = append(l.held, p...)
	end := bytes.LastIndexByte(l.held, '\n') + 1
	if end == 0 && len(l.held) >= maxLine {
		end = len(l.held)
	}
	if end > 0 {
		l.print(l.held[:end])
		l.held = append(l.held[:0], l.held[end:]...)
	}
	return len(p), nil
}

// Close prints a last line that has no end.
func (l *log) Close() error {
	if !l.closed && len(l.held) > 0 {
		l.print(l.held)
	}
	l.closed, l.held = true, nil
	return nil
}

// print prints lines in one piece. On a terminal the text before a carriage return, which what follows would overwrite, is left out: the
// step's name stands there. In a file everything is kept.
func (l *log) print(lines []byte) {
	var b strings.Builder
	for line := range bytes.Lines(lines) {
		text := strings.TrimRight(string(line), "\r\n")
		b.WriteString(l.prefix)
		if l.console.paint {
			text = text[strings.LastIndexByte(text, '\r')+1:]
			if strings.ContainsRune(text, '\x1b') {
				text += reset
			}
		}
		b.WriteString(text + "\n")
	}
	l.console.mu.Lock()
	defer l.console.mu.Unlock()
	_, _ = l.console.out.Write([]byte(b.String()))
}
