package livelog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/drone/drone-go/drone"
)

// The spool of a log is a folder of files 000000.jsonl, 000001.jsonl …, its segments. Each line of
// a segment is one line of the log as the server takes it, {"pos":0,"out":"+ make\n","time":0}, and
// an LF. They are only ever added to, so that after a crash the log up to the crash is there: it is
// the segments in the order of their names, without what isn't JSON (the last line of each may be
// torn). A gap between two pos are the lines that the limit took; see limit.go.

// flushSize is how many encoded bytes one large write gathers before they go to disk.
const flushSize = 128 << 10

type (
	// spool is a log on disk. It isn't safe for concurrent use; segments, once copied, may be read
	// while it is written.
	spool struct {
		dir   string
		limit limit
		// segments are those that are still there, the last one being written; file is its file,
		// nil if it couldn't be made yet.
		segments []segment
		file     *os.File
		// text is how many bytes of output were spooled, size how many they take to be sent, next
		// the pos after the last line of them. None forgets what the limit took.
		text, size int64
		next       int
		// unknown is set when text isn't the whole truth: a crash has forgotten how much was in
		// segments that are gone.
		unknown bool

		pending pending
		// encoder writes into line, which is one line for pending.
		encoder *json.Encoder
		line    bytes.Buffer
		lost    loss
		// failure is the first error of the disk.
		failure error
	}

	// segment is a file of the spool, as far as it was written in full.
	segment struct {
		number int
		path   string
		size   int64 // bytes of the file
		text   int64 // bytes of output in it
		next   int   // the pos after its last line
	}

	// pending is what is to be written next.
	pending struct {
		json  bytes.Buffer
		first drone.Line // without its message
		next  int
		lines int
		text  int64
		// notice is set if the lines are preceded by one that tells of the loss.
		notice bool
	}

	// loss are lines that the disk didn't take.
	loss struct {
		first drone.Line // without its message
		lines int
		text  int64
		err   error
	}
)

// newSpool makes a folder in dir, which is made as well if need be.
func newSpool(dir string, l limit) (*spool, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for logs: %w", err)
	}
	dir, err := os.MkdirTemp(dir, "log-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for a log: %w", err)
	}
	s := spoolAt(dir, l)
	s.rotate()
	if s.file, err = s.create(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("make the spool of a log: %w", err)
	}
	return s, nil
}

// spoolAt returns a spool without segments.
func spoolAt(dir string, l limit) *spool {
	s := &spool{dir: dir, limit: l}
	s.encoder = json.NewEncoder(&s.line)
	s.encoder.SetEscapeHTML(false) // It would make a log of markup half as long again.
	return s
}

// add spools a line. What the disk doesn't take is counted, and a line of the log says so.
func (s *spool) add(line *drone.Line) {
	encoded := s.encode(line)
	n := int64(len(encoded))
	if s.full(n) {
		s.flush()
		if s.full(n) { // Still, so that was no loss.
			s.rotate()
		}
	}
	p := &s.pending
	if p.lines == 0 {
		p.first = drone.Line{Number: line.Number, Timestamp: line.Timestamp}
		if s.lost.lines > 0 {
			p.notice = true
			notice := s.lost.line()
			p.text += int64(len(notice.Message))
			p.json.Write(s.encode(notice))
			encoded = s.encode(line)
		}
	}
	p.json.Write(encoded)
	p.lines++
	p.text += int64(len(line.Message))
	p.next = line.Number + 1
	if p.json.Len() >= flushSize {
		s.flush()
	}
}

// encode returns a line as JSON and an LF, until the next call.
func (s *spool) encode(line *drone.Line) []byte {
	s.line.Reset()
	_ = s.encoder.Encode(line) // Numbers and a string can always be encoded, and a Buffer takes them.
	return s.line.Bytes()
}

// full reports whether the limit wants a segment of its own for a line that takes n bytes.
func (s *spool) full(n int64) bool {
	cur := &s.segments[len(s.segments)-1]
	return s.limit.full(cur.number, cur.size+int64(s.pending.json.Len()), n)
}

// flush writes what is pending.
func (s *spool) flush() {
	p := &s.pending
	if p.lines == 0 {
		return
	}
	cur := &s.segments[len(s.segments)-1]
	err := s.write(p.json.Bytes(), cur.size)
	if err == nil {
		cur.size += int64(p.json.Len())
		cur.text += p.text
		cur.next, s.next = p.next, p.next
		s.text += p.text
		s.size += int64(p.json.Len())
		s.lost = loss{}
	} else {
		if s.lost.lines == 0 {
			s.lost.first = p.first
		}
		if p.notice {
			p.text -= int64(len(s.lost.line().Message))
		}
		s.lost.lines += p.lines
		s.lost.text += p.text
		s.lost.err = err
		if s.failure == nil {
			s.failure = err
		}
	}
	p.json.Reset()
	p.lines, p.text, p.notice = 0, 0, false
}

// write puts data at that place of the last segment: what was torn there by an earlier failure is
// written over.
func (s *spool) write(data []byte, at int64) error {
	if s.file == nil {
		f, err := s.create()
		if err != nil {
			return err
		}
		s.file = f
	}
	_, err := s.file.WriteAt(data, at)
	if err != nil {
		// A torn line would be found after a crash; if it can't be cut off it isn't JSON and is
		// passed over.
		_ = s.file.Truncate(at)
	}
	return err
}

// create makes the file of the last segment.
func (s *spool) create() (*os.File, error) {
	return os.OpenFile(s.segments[len(s.segments)-1].path, os.O_CREATE|os.O_WRONLY, 0o600)
}

// rotate begins a segment, and removes the one that the limit has no use for any more.
func (s *spool) rotate() {
	number := 0
	if n := len(s.segments); n > 0 {
		number = s.segments[n-1].number + 1
	}
	s.closeFile()
	s.segments = append(s.segments, segment{number: number, path: filepath.Join(s.dir, fmt.Sprintf("%06d.jsonl", number)), next: s.next})
	if len(s.segments) > keptSegments {
		// Should it stay, it goes with the folder.
		_ = os.Remove(s.segments[1].path)
		s.segments = append(s.segments[:1:1], s.segments[2:]...)
	}
}

// closeFile closes the last segment's file. Its content was written, if at all, without a buffer.
func (s *spool) closeFile() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// close ends the spool. Its error says that lines were lost.
func (s *spool) close() error {
	s.flush()
	s.closeFile()
	s.pending.json, s.line = bytes.Buffer{}, bytes.Buffer{}
	if s.failure != nil {
		return fmt.Errorf("spool a log: lines were lost: %w", s.failure)
	}
	return nil
}

// line tells of the loss, in the place of the first line that is lost.
func (l *loss) line() *drone.Line {
	err := l.err
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // The path is the administrator's business, not the reader's.
	}
	line := l.first
	line.Message = fmt.Sprintf("[%s of this log lost here: the runner couldn't keep them: %v]\n", amount(l.lines, l.text), err)
	return &line
}

// amount is a number of lines and bytes in words; less than 0 bytes are not known.
func amount(lines int, text int64) string {
	switch {
	case text < 0 && lines == 1:
		return "1 line"
	case text < 0:
		return fmt.Sprintf("%d lines", lines)
	case lines == 1:
		return fmt.Sprintf("1 line (%s)", units.BytesSize(float64(text)))
	}
	return fmt.Sprintf("%d lines (%s)", lines, units.BytesSize(float64(text)))
}
