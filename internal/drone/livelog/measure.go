package livelog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/drone/drone-go/drone"
)

// measurement is what parts of a spool hold.
type measurement struct {
	lines int
	text  int64
	// first and last are the first line and the last one, without their texts.
	first, last drone.Line
}

// measure reads parts.
func measure(parts []part) (measurement, error) {
	var m measurement
	for _, p := range parts {
		if err := m.add(p); err != nil {
			return m, fmt.Errorf("read the spool of a log: %w", err)
		}
	}
	return m, nil
}

// add reads one part.
func (m *measurement) add(p part) error {
	f, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(io.NewSectionReader(f, p.from, p.to-p.from), 64<<10)
	for {
		data, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var line drone.Line
		if err := json.Unmarshal(data, &line); err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		m.text += int64(len(line.Message))
		m.last = drone.Line{Number: line.Number, Timestamp: line.Timestamp}
		if m.lines++; m.lines == 1 {
			m.first = m.last
		}
	}
}
