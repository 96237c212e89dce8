package livelog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/drone/drone-go/drone"
)

// readBlock is the whole lines of a segment between from and to, undecoded, and where they begin.
// Low, before which it doesn't look, is where a line begins; from may be within one, the rest of
// which is passed over. If there is no whole line, the one that is longer is read all the same.
func readBlock(seg segment, low, from, to int64) ([]byte, int64, error) {
	if from >= to {
		return nil, from, nil // There may be no file.
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return nil, from, fmt.Errorf("read the spool of a log: %w", err)
	}
	defer f.Close()
	for {
		block := make([]byte, to-from)
		if _, err := f.ReadAt(block, from); err != nil {
			return nil, from, fmt.Errorf("read the spool of a log: %w", err)
		}
		start, end := 0, bytes.LastIndexByte(block, '\n')+1
		if from > low {
			start = bytes.IndexByte(block, '\n') + 1
		}
		switch {
		case start < end:
			return block[start:end], from + int64(start), nil
		case to < seg.size:
			to = min(to+(to-from), seg.size)
		case from > low: // The last line begins before the block.
			from = max(from-(to-from), low)
		default:
			return nil, to, nil
		}
	}
}

// first is how many bytes of the block its first n lines have.
func first(block []byte, n int) int {
	end := 0
	for ; n > 0; n-- {
		i := bytes.IndexByte(block[end:], '\n')
		if i < 0 {
			return len(block)
		}
		end += i + 1
	}
	return end
}

// last is where in the block its last n lines begin.
func last(block []byte, n int) int {
	start := len(block)
	for ; n > 0 && start > 0; n-- {
		start = bytes.LastIndexByte(block[:start-1], '\n') + 1
	}
	return start
}

// decode is the lines of a block.
func decode(block []byte) ([]*drone.Line, error) {
	var lines []*drone.Line
	dec := json.NewDecoder(bytes.NewReader(block))
	for dec.More() {
		line := new(drone.Line)
		if err := dec.Decode(line); err != nil {
			return nil, fmt.Errorf("read the spool of a log: %w", err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}
