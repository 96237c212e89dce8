package dockerd

import (
	"io"
	"sync"
)

// halfCloser is a connection of which one direction can end before the other.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Join copies both ways. The end of input is passed on as a half-close; the end of the daemon's
// output ends the connection, as nothing more can come of it.
func Join(client, daemon halfCloser) {
	var input sync.WaitGroup
	input.Go(func() {
		if CopyStream(daemon, client) == nil {
			_ = daemon.CloseWrite() // a daemon that has closed needs no end of input
			return
		}
		_ = daemon.Close() // the client broke off: nobody reads the output
	})
	_ = CopyStream(client, daemon) // whichever end broke, the other is closed
	_ = client.CloseWrite()
	_ = client.Close()
	_ = daemon.Close()
	input.Wait()
}

// CopyStream copies until end of file.
func CopyStream(to io.Writer, from io.Reader) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buf)
	return err
}
