package livelog

import "bytes"

// The last of a log that is shown elsewhere: how many lines, and how many bytes of each.
const (
	tailLines = 10
	tailBytes = 512
)

// tail keeps the last lines of a log, for the log of another step. It reuses its memory: a log of
// any length costs a copy of a few bytes a line.
type tail struct {
	lines [tailLines][]byte
	added int
}

// add keeps a line.
func (t *tail) add(text []byte) {
	at := &t.lines[t.added%tailLines]
	*at = append((*at)[:0], short(text)...)
	t.added++
}

// last returns the lines in order, and behind them the one that has no end yet, if there is one.
func (t *tail) last(open []byte) []string {
	var out []string
	for i := max(t.added-tailLines, 0); i < t.added; i++ {
		out = append(out, string(t.lines[i%tailLines]))
	}
	if len(open) > 0 {
		out = append(out, string(short(open)))
	}
	return out[max(len(out)-tailLines, 0):]
}

// short is the beginning of a line, without its end.
func short(text []byte) []byte {
	text = bytes.TrimRight(text, "\r\n")
	return text[:min(len(text), tailBytes)]
}
