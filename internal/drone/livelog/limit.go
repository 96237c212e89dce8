package livelog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/go-units"
	"github.com/drone/drone-go/drone"
)

// DefaultLimit is how many bytes of a log are kept, as in Drone: 5 MiB.
const DefaultLimit = 5 << 20

// limit is how many bytes of output are kept of a log; 0 keeps all.
//
// How the head and the tail of a log are kept, without knowing where it ends and without keeping more than about one and a half times the limit on disk:
//
//  1. The first segment takes the head, lines of up to half the limit, and stays.
//  2. Each further segment takes half the limit, and a part of a line more, so that the last two of them always hold the tail. Older ones are removed.
//  3. If in the end the whole output is within the limit, nothing was removed, and the log is all segments.
//  4. Otherwise it is the first segment, one line that tells what is missing, and the last lines of the last two segments, up to half the limit.
//
// Lines keep their pos, so the gap in them is as wide as what is missing.
type limit int64

// keptSegments are the head, and the two that hold the tail.
const keptSegments = 3

// head is how many bytes the head may have, tail how many the tail.
func (l limit) head() int64 { return int64(l) / 2 }
func (l limit) tail() int64 { return int64(l) - l.head() }

// full tells whether a segment that holds text bytes doesn't take a line of n bytes more.
func (l limit) full(number int, text, n int64) bool {
	switch {
	case l == 0:
		return false
	case number == 0:
		return text+n > l.head()
	default:
		return text >= l.tail()
	}
}

// exceeded tells whether text bytes of output are more than is kept.
func (l limit) exceeded(text int64) bool { return l != 0 && text > int64(l) }

// line is how long a line may be: a quarter of the limit at most, so that there are lines to keep.
func (l limit) line() int {
	const least = 256 // For limits that are too small for any log.
	if l == 0 {
		return maxLine
	}
	return int(min(maxLine, max(int64(l)/4, least)))
}

// part is a piece of the log: a range of a segment's file, in whole lines, or a line of our own.
type part struct {
	path     string
	from, to int64
	notice   *drone.Line
}

// parts are the log in order, none of them empty. The spool must be closed.
func (s *spool) parts() ([]part, error) {
	var parts []part
	add := func(seg segment, from int64) {
		if from < seg.size {
			parts = append(parts, part{path: seg.path, from: from, to: seg.size})
		}
	}
	if !s.limit.exceeded(s.text) {
		for _, seg := range s.segments {
			add(seg, 0)
		}
	} else {
		head, tail := s.segments[0], s.segments[1:]
		add(head, 0)
		cut, err := s.cut(tail)
		if err != nil {
			return nil, err
		}
		cut.notice.Number = head.next
		missing := s.text - head.text - cut.text
		if s.unknown {
			missing = -1
		}
		cut.notice.Message = fmt.Sprintf("[%s left out here: the log is longer than %s, the limit that DRONE_RUNNER_LOG_LIMIT sets]\n",
			amount(cut.next-head.next, missing), units.BytesSize(float64(s.limit)))
		parts = append(parts, part{notice: &cut.notice})
		for i, seg := range tail[cut.segment:] {
			if i == 0 {
				add(seg, cut.at)
			} else {
				add(seg, 0)
			}
		}
	}
	if s.lost.lines > 0 {
		parts = append(parts, part{notice: s.lost.line()})
	}
	return parts, nil
}

// cut is where the tail begins.
type cut struct {
	segment int   // the segment of the tail's first line
	at      int64 // where in its file
	next    int   // the pos of the first line
	text    int64 // bytes of output from there on
	notice  drone.Line
}

// cut finds the longest tail that the limit allows.
func (s *spool) cut(segments []segment) (cut, error) {
	c := cut{next: s.next}
	for _, seg := range segments {
		c.text += seg.text
	}
	for i, seg := range segments {
		if seg.size == 0 {
			continue // It may have no file.
		}
		c.segment, c.at = i, 0
		if c.text-seg.text >= s.limit.tail() {
			c.text -= seg.text
			c.at = seg.size
			continue
		}
		found, err := c.within(seg, s.limit.tail())
		if found || err != nil {
			return c, err
		}
	}
	return c, nil
}

// within moves the cut on in the segment, to the first line from which on no more than tail bytes are left, and tells whether there is one.
func (c *cut) within(seg segment, tail int64) (bool, error) {
	f, err := os.Open(seg.path)
	if err != nil {
		return false, fmt.Errorf("read the spool of a log: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, seg.size), 64<<10)
	for {
		data, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the spool of a log: %w", err)
		}
		var line drone.Line
		if err := json.Unmarshal(data, &line); err != nil {
			return false, fmt.Errorf("read the spool of a log: %s at byte %d: %w", seg.path, c.at, err)
		}
		c.notice.Timestamp = line.Timestamp
		if c.text <= tail {
			c.next = line.Number
			return true, nil
		}
		c.text -= int64(len(line.Message))
		c.at += int64(len(data))
	}
}
