// Command dockerode calls Docker as dockerode does, the client of Node that Testcontainers for Node
// and many tools are built upon, and prints which calls work: one line each, "ok NAME" or "not ok
// NAME: why". It is no copy of it. What it shares is how requests look on the wire: the options of
// a call are its query and, where it is a POST, its body as well, whole, whatever the endpoint
// knows of them.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// options of a call, as a program of Node has them in one object.
type options map[string]any

// client is a connection to Docker.
type client struct {
	http   *http.Client
	socket string
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: dockerode SOCKET IMAGE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	socket := os.Args[1]
	c := &client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	r := &run{client: c, ctx: ctx, image: os.Args[2], name: "node-" + hex.EncodeToString(random)}
	r.all()
}

// query is how dockerode writes options into a path: objects and lists as JSON, apart from those of
// which Docker takes several.
func (o options) query() string {
	q := url.Values{}
	for k, v := range o {
		switch v := v.(type) {
		case string:
			q.Set(k, v)
		case []string:
			if k == "t" || k == "extrahosts" {
				q[k] = v
				continue
			}
			q.Set(k, encode(v))
		default:
			q.Set(k, encode(v))
		}
	}
	return q.Encode()
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the options are this program's own
	}
	return string(b)
}

// do sends a request and returns its answer. A path that ends in "?" gets the options as its query;
// a POST has them as its body.
func (c *client) do(ctx context.Context, method, path string, o options, body io.Reader) (*http.Response, error) {
	header := http.Header{}
	if before, queried := strings.CutSuffix(path, "?"); queried {
		path = before
		if len(o) > 0 {
			path += "?" + o.query()
		}
	}
	switch {
	case body != nil:
		header.Set("Content-Type", "application/tar")
	case method == http.MethodPost:
		if o == nil {
			o = options{}
		}
		body = strings.NewReader(encode(o))
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		text, _ := io.ReadAll(resp.Body) // what there is of it is the message
		_ = resp.Body.Close()
		return nil, fmt.Errorf("(HTTP code %d) %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	return resp, nil
}

// call is do for an answer of JSON, or one that nobody reads.
func (c *client) call(ctx context.Context, method, path string, o options, into any) error {
	resp, err := c.do(ctx, method, path, o, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || into == nil || len(b) == 0 {
		return err
	}
	return json.Unmarshal(b, into)
}

// stream reads an answer to its end. One of messages has no error among them.
func (c *client) stream(ctx context.Context, method, path string, o options, body io.Reader) (string, error) {
	resp, err := c.do(ctx, method, path, o, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && bytes.Contains(b, []byte(`"errorDetail"`)) {
		err = errors.New(string(b))
	}
	return string(b), err
}

// hijack is a call whose connection becomes a stream both ways: what is sent, and all that comes
// back until the other end closes.
func (c *client) hijack(ctx context.Context, path string, o options, send string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if before, queried := strings.CutSuffix(path, "?"); queried {
		path = before + "?" + o.query()
	}
	body := encode(o)
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%s",
		path, len(body), body); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	answer := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(resp.Body) // what there is of it is the message
		return "", fmt.Errorf("(HTTP code %d) %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	// Not earlier: what comes with the request, the daemon takes for a part of it.
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(answer)
	return string(b), err
}

// archive is a tar of files.
func archive(files map[string]string) io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			panic(err) // a buffer takes all
		}
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	return &b
}
