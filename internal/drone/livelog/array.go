package livelog

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// array reads parts as a JSON array.
type array struct {
	io.Reader
	files []*os.File
	left  int
}

// openArray opens every file of the parts, so that they can be read even when they are removed.
func openArray(parts []part) (io.ReadCloser, error) {
	a := &array{left: len("[]")}
	readers := []io.Reader{strings.NewReader("[")}
	for i, p := range parts {
		last := i == len(parts)-1
		if p.notice != nil {
			data, err := json.Marshal(p.notice)
			if err != nil {
				_ = a.Close()
				return nil, fmt.Errorf("read the spool of a log: %w", err)
			}
			if !last {
				data = append(data, ',')
			}
			readers = append(readers, strings.NewReader(string(data)))
			a.left += len(data)
			continue
		}
		f, err := os.Open(p.path)
		if err != nil {
			_ = a.Close()
			return nil, fmt.Errorf("read the spool of a log: %w", err)
		}
		a.files = append(a.files, f)
		if last {
			p.to-- // Without the LF of the last line, which would become a comma.
		}
		readers = append(readers, commas{io.NewSectionReader(f, p.from, p.to-p.from)})
		a.left += int(p.to - p.from)
	}
	a.Reader = io.MultiReader(append(readers, strings.NewReader("]"))...)
	return a, nil
}

// Len returns how many bytes are left, so that an upload can say how long it is.
func (a *array) Len() int { return a.left }

// Read reads the array.
func (a *array) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.left -= n
	return n, err
}

// Close closes the files.
func (a *array) Close() error {
	for _, f := range a.files {
		_ = f.Close() // They were only read.
	}
	a.files = nil
	return nil
}

// commas reads JSON lines with a comma after each. JSON has no LF inside a value.
type commas struct{ r io.Reader }

// Read is the reader's, with LF made commas.
func (c commas) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			p[i] = ','
		}
	}
	return n, err
}
