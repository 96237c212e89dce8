package engine

import (
	"bytes"
	"io"

	"github.com/docker/docker/pkg/stdcopy"
)

// maxHeldLine bounds what demux holds of an unfinished line.
const maxHeldLine = 64 << 10

// demux copies the two streams of a container from the daemon's framed stream into one writer, in
// the order of arrival, until its end. Lines stay whole: an unfinished line of one stream is held
// back until its end, so that no line of the other comes in between. (Torn so, a secret would pass
// every mask.) Lines of more than 64 kB are passed on in pieces.
func demux(w io.Writer, framed io.Reader) error {
	stdout, stderr := &lineWriter{w: w}, &lineWriter{w: w}
	_, err := stdcopy.StdCopy(stdout, stderr, framed)
	for _, s := range []*lineWriter{stdout, stderr} {
		if flushErr := s.flush(); err == nil {
			err = flushErr
		}
	}
	return err
}

// lineWriter passes on whole lines.
type lineWriter struct {
	w    io.Writer
	held []byte
}

// Write keeps what follows the last newline for the next call.
func (l *lineWriter) Write(p []byte) (int, error) {
	end := bytes.LastIndexByte(p, '\n') + 1
	if end == 0 && len(l.held)+len(p) <= maxHeldLine {
		l.held = append(l.held, p...)
		return len(p), nil
	}
	if end == 0 {
		end = len(p)
	}
	if err := l.flush(); err != nil {
		return 0, err
	}
	if _, err := l.w.Write(p[:end]); err != nil {
		return 0, err
	}
	l.held = append(l.held, p[end:]...)
	return len(p), nil
}

func (l *lineWriter) flush() error {
	if len(l.held) == 0 {
		return nil
	}
	_, err := l.w.Write(l.held)
	l.held = l.held[:0]
	return err
}
