package livelog

import (
	"bytes"
	"unicode/utf8"
)

// MaxLine is how long a line may be, in bytes; a longer one becomes several. It bounds what a
// writer that never ends its line takes of memory.
const MaxLine = 256 << 10

// replacement stands in a log, which is JSON, for each byte of the output that isn't UTF-8.
const replacement = string(utf8.RuneError)

// splitter cuts a stream into lines.
//
// A line ends with LF, which it keeps. A CR is a byte like any other, so a progress bar that draws
// itself anew stays one line. A line longer than max is cut, between characters where that's
// possible.
type splitter struct {
	max int // at least utf8.UTFMax
	// held is the beginning of a line, shorter than max.
	held []byte
}

// write adds p and calls emit with each line that is complete, in order. emit must not keep the
// line.
func (s *splitter) write(p []byte, emit func(line []byte)) {
	for len(p) > 0 {
		room := s.max - len(s.held)
		end := bytes.IndexByte(p[:min(room, len(p))], '\n') + 1
		switch {
		case end > 0 && len(s.held) == 0:
			emit(p[:end])
		case end > 0:
			s.held = append(s.held, p[:end]...)
			emit(s.held)
			s.held = s.held[:0]
		case len(p) < room:
			s.held = append(s.held, p...)
			return
		default:
			end = room
			s.held = append(s.held, p[:end]...)
			cut := characters(s.held)
			emit(s.held[:cut])
			s.held = append(s.held[:0], s.held[cut:]...)
		}
		p = p[end:]
	}
}

// close emits what is left, a line without an end. There is none if the stream ended with a line
// end.
func (s *splitter) close(emit func(line []byte)) {
	if len(s.held) > 0 {
		emit(s.held)
	}
	s.held = nil
}

// characters is how much of text there is without a character that has only begun at its end; all
// of it if that would be nothing.
func characters(text []byte) int {
	for i := len(text) - 1; i > 0 && i >= len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// valid returns the line as UTF-8: the line itself, if it is, and otherwise one with a replacement
// for each byte that isn't. That is what an encoder of JSON makes of it, so a log reads as with any
// runner.
func valid(line []byte) []byte {
	if utf8.Valid(line) {
		return line
	}
	out := make([]byte, 0, len(line)+16)
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		if r == utf8.RuneError && size == 1 {
			out = append(out, replacement...)
		} else {
			out = append(out, line[:size]...)
		}
		line = line[size:]
	}
	return out
}
