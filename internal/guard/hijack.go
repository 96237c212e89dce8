package guard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// tunnel carries a request whose connection becomes a raw stream (attach, exec start): it asks the
// daemon to upgrade, and if the daemon does, joins the two connections until both directions have
// ended.
func (c *call) tunnel(ctx context.Context, o dockerd.Request) error {
	protocol := "tcp"
	if o.Header == nil {
		o.Header = http.Header{}
	}
	return c.tunnelAs(ctx, o, protocol)
}

// tunnelAs is tunnel with another protocol than "tcp".
func (c *call) tunnelAs(ctx context.Context, o dockerd.Request, protocol string) error {
	if o.Version == "" {
		o.Version = c.version
	}
	conn, resp, err := c.g.up.Upgrade(ctx, o, protocol)
	if err != nil {
		return err
	}
	if conn == nil {
		defer resp.Body.Close()
		dockerd.CopyHeader(c.w.Header(), resp.Header)
		if resp.StatusCode >= 400 {
			return dockerd.AnswerError(resp)
		}
		return dockerd.Relay(c.w, resp)
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
	dockerd.Join(client, conn)
	return dockerd.ErrAnswered
}

// hijack takes the client's connection from the server, and tells the client so with the header of
// the daemon's answer. The caller releases it.
func (c *call) hijack(answer http.Header) (*dockerd.Stream, error) {
	raw, rw, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the client's connection: %w", err)
	}
	client := dockerd.NewStream(raw, rw.Reader)
	if !c.g.hold(client) {
		return nil, dockerd.ErrAnswered
	}
	if err := c.greet(client, answer); err != nil {
		c.g.release(client)
		return nil, dockerd.ErrAnswered // the client has gone
	}
	return client, nil
}

// greet writes the header of a hijacked answer: 101 to a client that asked for an upgrade, Docker's
// older form, a 200 without end, to one that didn't.
func (c *call) greet(client io.Writer, answer http.Header) error {
	b := bufio.NewWriter(client)
	h := http.Header{}
	dockerd.CopyHeader(h, answer)
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

// wantsUpgrade reports whether the client asks for that protocol.
func (c *call) wantsUpgrade(protocol string) bool {
	return strings.EqualFold(c.r.Header.Get("Upgrade"), protocol)
}

var _ net.Conn = (*dockerd.Stream)(nil)
