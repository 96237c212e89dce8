package livelog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/drone/drone-go/drone"
)

// segmentName is that of a segment's file, as rotate makes it.
var segmentName = regexp.MustCompile(`^([0-9]{6,9})\.jsonl$`)

// Recover is the log whose spool a crash has left at path, closed. Its last line is the notice,
// unless that is empty. Of a line that isn't whole, because the crash tore it, nothing is kept. The
// limit is that of Options. The caller calls Remove once the log is delivered, or leaves the spool
// for another Recover.
func Recover(path string, limitBytes int64, notice string) (*Log, error) {
	found, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("recover the log of a step: %w", err)
	}
	s := spoolAt(path, limitOf(limitBytes))
	var end drone.Line
	for _, f := range found { // in the order of their names, which is that of their numbers
		name := segmentName.FindStringSubmatch(f.Name())
		if name == nil || !f.Type().IsRegular() {
			continue
		}
		number, err := strconv.Atoi(name[1])
		if err != nil {
			continue
		}
		seg := segment{number: number, path: filepath.Join(path, f.Name()), next: s.next}
		if err := seg.mend(&end); err != nil {
			return nil, fmt.Errorf("recover the log of a step: %w", err)
		}
		if n := len(s.segments); n > 0 && s.segments[n-1].number+1 != number {
			s.unknown = true // Segments between the two were removed, or lost.
		}
		s.segments = append(s.segments, seg)
		s.text += seg.text
		s.size += seg.size
		s.next = seg.next
	}
	if s.unknown && !s.limit.exceeded(s.size) {
		s.size = int64(s.limit) + 1 // Otherwise nothing would have been removed.
	}
	if len(s.segments) == 0 {
		s.rotate()
	}
	if head := s.segments[0].size; s.limit != 0 && head > s.limit.head() {
		s.limit = limit(2 * head) // The operator has lowered the limit since. What was kept under the old one stays.
	}
	if notice += "\n"; notice != "\n" && notice != end.Message {
		s.add(&drone.Line{Number: s.next, Message: notice, Timestamp: end.Timestamp})
	}
	l := &Log{spool: s, closed: true}
	l.result = s.close()
	l.next = s.next
	return l, nil
}

// mend keeps the whole lines of a segment and takes its measure. Lines that aren't later than end,
// the last one before, are none of the log's. A file that has none but whole lines isn't written
// to.
func (seg *segment) mend(end *drone.Line) error {
	in, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer in.Close()
	var out *os.File
	defer func() {
		if out != nil {
			_ = out.Close()
			_ = os.Remove(out.Name()) // it has its new name by now, or is of no use
		}
	}()
	r := bufio.NewReaderSize(in, 64<<10)
	read := int64(0)
	for {
		data, err := r.ReadBytes('\n')
		if len(data) == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var line drone.Line
		whole := err == nil && json.Unmarshal(data, &line) == nil && line.Number >= seg.next && line.Message != "" && line.Timestamp >= 0
		switch {
		case !whole && out == nil:
			// From here on the file isn't what it should be: what is good of it goes into another
			// one.
			if out, err = os.CreateTemp(filepath.Dir(seg.path), "mend-"); err != nil {
				return err
			}
			if _, err := io.Copy(out, io.NewSectionReader(in, 0, read)); err != nil {
				return err
			}
		case whole && out != nil:
			if _, err := out.Write(data); err != nil {
				return err
			}
		}
		read += int64(len(data))
		if whole {
			seg.size += int64(len(data))
			seg.text += int64(len(line.Message))
			seg.next = line.Number + 1
			*end = line
		}
	}
	if out == nil {
		return nil
	}
	return os.Rename(out.Name(), seg.path)
}
