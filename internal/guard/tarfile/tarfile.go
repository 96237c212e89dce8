// Package tarfile edits tar archives while they are streamed: it takes some files out, has them
// changed, and appends them.
//
// The one rule to keep: what isn't taken out is copied byte for byte, and what is put in comes
// last, so that it is what a reader of the archive ends up with.
package tarfile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// bufferSize is how much is copied at a time.
const bufferSize = 128 << 10

// Limit bounds what is taken out of an archive to be looked at, and the header of a file in one.
const Limit = 8 << 20

// File is a file in an archive.
type File struct {
	Name string // cleaned
	Data []byte
	// header it had, and gets again; nil for a new file.
	header *tar.Header
}

// Edit says what becomes of an archive on its way.
type Edit struct {
	// Wanted are the files, by their cleaned names, that are taken out.
	Wanted func(name string) bool
	// Rest makes of them what is put in at the end.
	Rest func(taken []File) ([]File, error)
}

// Copy copies a tar archive, byte by byte, except for the files that it takes out, and appends
// others.
//
// What is appended comes last, so that it's what a reader ends up with, whatever else an archive
// holds at that place: duplicates, links, a folder that is a link.
func (e Edit) Copy(in io.Reader, out io.Writer) error {
	w := bufio.NewWriterSize(sink{out}, bufferSize)
	var pending bytes.Buffer
	tee := &meter{Reader: bufio.NewReaderSize(in, bufferSize)}
	tr := tar.NewReader(tee)
	buf := make([]byte, bufferSize)
	var taken []File
	var size int64
	dropped := false // the file before
	for {
		// The header is held back until it's known whether its file stays. The padding of the file
		// before it comes first, and goes with that.
		pending.Reset()
		padding := int(-tee.offset & 511)
		drop := dropped
		dropped = false
		tee.to = &capped{&pending, Limit}
		h, err := tr.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return apierror.BadRequest("the archive can't be read: %v", err)
		}
		var filling [512]byte // of zeros where an archive ends in its padding
		copy(filling[:padding], pending.Next(padding))
		if !drop {
			if _, err := w.Write(filling[:padding]); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
		if sparse(h) {
			return apierror.BadRequest(
				"the archive's %s is a sparse file: make the archive without sparse files",
				apierror.Quote(h.Name),
			)
		}
		name := path.Clean("/" + h.Name)[1:]
		if !e.Wanted(name) {
			if _, err := w.Write(pending.Bytes()); err != nil {
				return err
			}
			tee.to = w
			// what is read goes on by tee
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{tr}, buf); err != nil {
				return broken(err)
			}
			continue
		}
		if size += h.Size; h.Typeflag != tar.TypeReg || size > Limit {
			return apierror.BadRequest(
				"the archive's %s is no regular file of at most %d bytes",
				apierror.Quote(name),
				Limit,
			)
		}
		tee.to = io.Discard
		b, err := io.ReadAll(tr)
		if err != nil {
			return broken(err)
		}
		dropped = true
		taken = append(taken, File{name, b, h})
	}
	files, err := e.Rest(taken)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644}
		if f.header != nil {
			h = f.header
		}
		h.Size = int64(len(f.Data))
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s into an archive: %w", f.Name, err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, tee.Reader) // filling after the archive's end
	return err
}

// broken words an error of the stream that an archive comes in; one of the side that it goes to
// stays as it is.
func broken(err error) error {
	if errors.Is(err, errSink) {
		return err
	}
	return apierror.BadRequest("the archive breaks off: %v", err)
}

// errSink says that the daemon takes no more.
var errSink = errors.New("the docker daemon has stopped reading")

// sink is where an archive goes; its errors can be told from those of the source.
type sink struct{ io.Writer }

// Write writes.
func (s sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errSink, err)
	}
	return n, err
}

// sparse reports whether a file has holes, which take no room in an archive and may be of any size.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// meter is a reader that counts, and passes on what is read.
type meter struct {
	io.Reader
	to     io.Writer
	offset int64
}

// Read reads, counts and passes on.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.offset += int64(n)
	if n > 0 {
		if _, err := m.to.Write(p[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

// capped is a buffer with a limit.
type capped struct {
	*bytes.Buffer
	limit int
}

// Write fails beyond the limit.
func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		return 0, fmt.Errorf("a header is larger than %d bytes", c.limit)
	}
	return c.Buffer.Write(p)
}

// decompress returns the plain form of an archive that may be compressed.
func decompress(in io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(in, bufferSize)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, broken(err)
	}
	has := func(s string) bool { return bytes.HasPrefix(magic, []byte(s)) }
	switch {
	case has("\x1f\x8b\x08"):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, apierror.BadRequest("the archive can't be read: %v", err)
		}
		return z, nil
	case has("BZh"):
		return bzip2.NewReader(b), nil
	case has("\x28\xb5\x2f\xfd"), has("\xfd7zXZ\x00"):
		return nil, apierror.BadRequest(
			"the archive is compressed with zstd or xz, which the guard can't look into: send it plain, or with gzip",
		)
	}
	return b, nil
}

// sendingTime is how long a client that has been answered may take to finish sending.
const sendingTime = 2 * time.Second
