package guard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// tunnel carries a request whose connection becomes a raw stream (attach, exec start): it asks the daemon to upgrade, and if the daemon does, joins the two
// connections until both directions have ended.
func (c *call) tunnel(ctx context.Context, o outgoing) error {
	protocol := "tcp"
	if o.header == nil {
		o.header = http.Header{}
	}
	return c.tunnelAs(ctx, o, protocol)
}

// tunnelAs is tunnel with another protocol than "tcp".
func (c *call) tunnelAs(ctx context.Context, o outgoing, protocol string) error {
	if o.version == "" {
		o.version = c.version
	}
	conn, resp, err := c.g.up.upgrade(ctx, o, protocol)
	if err != nil {
		return err
	}
	if conn == nil {
		defer resp.Body.Close()
		copyHeader(c.w.Header(), resp.Header)
		if resp.StatusCode >= 400 {
			return answerError(resp)
		}
		return c.stream(resp)
	}
	if !c.g.hold(conn) {
		return errClosed
	}
	defer c.g.release(conn)

	client, err := c.hijack(resp.Header)
	if err != nil {
		return err
	}
	defer c.g.release(client)
	join(client, conn)
	return errAnswered
}

// hijack takes the client's connection from the server, and tells the client so with the header of the daemon's answer. The caller releases it.
func (c *call) hijack(answer http.Header) (*stream, error) {
	raw, rw, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the client's connection: %w", err)
	}
	client := &stream{Conn: raw, in: rw.Reader}
	if !c.g.hold(client) {
		return nil, errAnswered
	}
	if err := c.greet(client, answer); err != nil {
		c.g.release(client)
		return nil, errAnswered // the client has gone
	}
	return client, nil
}

// greet writes the header of a hijacked answer: 101 to a client that asked for an upgrade, Docker's older form, a 200 without end, to one that didn't.
func (c *call) greet(client io.Writer, answer http.Header) error {
	b := bufio.NewWriter(client)
	h := http.Header{}
	copyHeader(h, answer)
	if protocol := c.r.Header.Get("Upgrade"); protocol != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", answer.Get("Upgrade"))
		fmt.Fprintf(b, "HTTP/1.1 101 UPGRADED\r\n")
	} else {
		fmt.Fprintf(b, "HTTP/1.1 200 OK\r\n")
	}
	if err := h.Write(b); err != nil {
		return err
	}
	if _, err := io.WriteString(b, "\r\n"); err != nil {
		return err
	}
	return b.Flush()
}

// halfCloser is a connection of which one direction can end before the other.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join copies both ways. The end of input is passed on as a half-close; the end of the daemon's output ends the connection, as nothing more can come of it.
func join(client, daemon halfCloser) {
	var input sync.WaitGroup
	input.Go(func() {
		if copyStream(daemon, client) == nil {
			_ = daemon.CloseWrite() // a daemon that has closed needs no end of input
			return
		}
		_ = daemon.Close() // the client broke off: nobody reads the output
	})
	_ = copyStream(client, daemon) // whichever end broke, the other is closed
	_ = client.CloseWrite()
	_ = client.Close()
	_ = daemon.Close()
	input.Wait()
}

// copyStream copies until end of file.
func copyStream(to io.Writer, from io.Reader) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buf)
	return err
}

// wantsUpgrade tells whether the client asks for that protocol.
func (c *call) wantsUpgrade(protocol string) bool {
	return strings.EqualFold(c.r.Header.Get("Upgrade"), protocol)
}

var _ net.Conn = (*stream)(nil)
