package tarfile

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Body returns a request's body: the archive that a client sends (in), with edit applied. The
// caller calls done when the daemon has answered: it ends the copying, waits for it, and returns
// what went wrong in it.
func Body(w http.ResponseWriter, in io.Reader, edit Edit) (body io.Reader, done func() error) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/1.1 always can
	b := &outgoing{in: in, edit: edit, end: make(chan error, 1)}
	return b, func() error {
		if !b.stop() {
			return nil
		}
		var err error
		select {
		case err = <-b.end:
		case <-time.After(sendingTime):
			_ = control.SetReadDeadline(time.Unix(1, 0)) // the client's body can be read no more
			err = <-b.end
		}
		if errors.Is(err, errSink) {
			return nil
		}
		return err
	}
}

// outgoing is an archive on its way. It writes itself to the daemon's connection: to be read, it
// would have to be copied twice.
type outgoing struct {
	in   io.Reader
	edit Edit
	end  chan error // how WriteTo ended

	mu               sync.Mutex
	started, stopped bool
}

// stop keeps WriteTo from starting, and reports whether it has.
func (b *outgoing) stop() (started bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	return b.started
}

// WriteTo copies the archive. The transport calls it, once.
func (b *outgoing) WriteTo(w io.Writer) (int64, error) {
	b.mu.Lock()
	if b.started || b.stopped {
		b.mu.Unlock()
		return 0, errSink
	}
	b.started = true
	b.mu.Unlock()
	plain, err := decompress(b.in)
	if err == nil {
		err = b.edit.Copy(plain, w)
	}
	b.end <- err
	return 0, err
}

// Read is for the interface of bodies.
func (b *outgoing) Read([]byte) (int, error) {
	return 0, errors.New("an archive is written, not read")
}

// Close leaves the client's body open: its server closes it.
func (b *outgoing) Close() error { return nil }
