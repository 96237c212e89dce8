package dockerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostQuiet is how many quiet connections a guard has at a time: each takes a thread while it
// waits. One more log is read in the ordinary way.
const mostQuiet = 32

// quiet is do for a log, on a connection of its own that Go's poller doesn't watch.
//
// The daemon writes a log line by line, and the poller is woken for each line, also when nothing
// reads and lines gather (see pace): that takes more of the processors than to hand the lines on.
// With a connection that is read by blocking calls nothing happens meanwhile. done is called when
// it is closed.
func (u *Daemon) quiet(ctx context.Context, o Request, done func()) (*http.Response, error) {
	conn, err := u.dialQuiet(ctx)
	if err != nil {
		done()
		return nil, err
	}
	body := &quietBody{conn: conn, stop: context.AfterFunc(ctx, conn.interrupt), done: done}
	resp, err := u.converse(ctx, o, conn)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	body.Reader, resp.Body = resp.Body, body
	return resp, nil
}

// converse sends a request, the only one on its connection, and reads the answer's header.
func (u *Daemon) converse(ctx context.Context, o Request, conn io.ReadWriter) (*http.Response, error) {
	r, err := u.request(ctx, o)
	if err != nil {
		return nil, err
	}
	r.Close = true
	if err = r.Write(conn); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReaderSize(conn, BufferSize), r); err == nil {
			return resp, nil
		}
	}
	return nil, fmt.Errorf("ask the docker daemon for %s %s: %w", o.Method, o.Path, err)
}

// dialQuiet connects with the help of the poller, since a daemon that hangs may let a client wait
// for ever, and takes the connection from it then.
func (u *Daemon) dialQuiet(ctx context.Context) (*quietConn, error) {
	watched, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer watched.Close()
	fd := -1
	raw, err := watched.(syscall.Conn).SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(old uintptr) {
			if fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); failed == nil {
				failed = unix.SetNonblock(fd, false)
			}
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("connect to the docker daemon: %w", err)
	}
	return &quietConn{fd: fd}, nil
}

// quietConn is a connected socket. One goroutine reads, writes and closes it; others may interrupt
// that.
type quietConn struct {
	fd int

	mu     sync.Mutex
	closed bool
}

// Read blocks its thread until something comes.
func (c *quietConn) Read(p []byte) (int, error) {
	n, err := restart(func() (int, error) { return unix.Read(c.fd, p) })
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Write writes all of p.
func (c *quietConn) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		n, err = restart(func() (int, error) { return unix.Write(c.fd, p[written:]) })
		written += n
	}
	return written, err
}

// restart makes a call again that a signal has cut short.
func restart(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// interrupt ends what blocks: there is nothing more to read, and nothing can be written.
func (c *quietConn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // the other end may have gone
	}
}

// Close closes the socket. It is called once.
func (c *quietConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return unix.Close(c.fd)
}

// quietBody is an answer's body that owns its connection.
type quietBody struct {
	io.Reader
	conn *quietConn
	stop func() bool
	done func()
}

// Close closes the connection.
func (b *quietBody) Close() error {
	b.stop()
	defer b.done()
	return b.conn.Close()
}
