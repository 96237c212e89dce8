package dockerd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// ErrBroken is the error of an answer of the daemon's that broke off when some of it had been
// handed on. It's too late for an error's status, and where no message can say it either, a
// connection that breaks is the only way to show the client that the answer isn't whole.
var ErrBroken = errors.New("the docker daemon's answer broke off")

// ErrAnswered is the error of a handler that has answered already, or whose client has gone.
var ErrAnswered = errors.New("answered")

// buffers are reused by streams.
var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// Relay copies an answer to the client, at once.
func Relay(w http.ResponseWriter, resp *http.Response) error {
	CopyHeader(w.Header(), resp.Header)
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent &&
		resp.StatusCode != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	if resp.ContentLength < 0 {
		_ = flush.Flush() // `wait` answers its header long before its body
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var pace pace
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return ErrAnswered // the client has gone
			}
			if resp.ContentLength < 0 {
				if err := flush.Flush(); err != nil {
					return ErrAnswered
				}
				pace.rest(n)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
}

// pace lets a stream that comes in a rush of small pieces, as a log is that is read from its
// beginning, gather for a moment between two reads: to wake up for each line takes longer than to
// hand it on. A piece that comes alone, or among a few, goes on at once.
type pace struct {
	last time.Time
	rush int // small pieces in a row
}

const (
	smallPiece = 16 << 10               // bytes; above, a piece is worth its own turn
	rushGap    = time.Millisecond       // pieces that are further apart are no rush
	rushLength = 16                     // pieces
	gatherTime = 200 * time.Microsecond // well below what a person or a test of a prompt would notice
)

// rest is called when a piece of n bytes has gone on.
func (p *pace) rest(n int) {
	now := time.Now()
	if n > smallPiece || now.Sub(p.last) > rushGap {
		p.rush = 0
	} else {
		p.rush++
	}
	p.last = now
	if p.rush > rushLength {
		time.Sleep(gatherTime)
	}
}

// RelayJSON passes on an endless answer, one JSON value at a time; what change makes nil is left
// out.
func RelayJSON(w http.ResponseWriter, resp *http.Response, change func([]byte) []byte) error {
	CopyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	d := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
		b := change(raw)
		if b == nil {
			continue
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return ErrAnswered
		}
		if err := flush.Flush(); err != nil {
			return ErrAnswered
		}
	}
}

// ReadAll reads an answer that has to be looked at whole, within lookupLimit.
func ReadAll(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, lookupLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read the docker daemon's answer: %w", err)
	}
	if n > lookupLimit {
		return nil, fmt.Errorf("read the docker daemon's answer: it is larger than %d bytes", lookupLimit)
	}
	return b.Bytes(), nil
}

// HopHeaders belong to one connection (RFC 9110, 7.6.1), and Content-Length is set from the body.
var HopHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
}

// CopyHeader copies the daemon's headers for the client.
func CopyHeader(to, from http.Header) {
	for k, v := range from {
		if !HopHeaders[k] {
			to[k] = v
		}
	}
}

// TarHeader returns the header of a streamed body. Its type is fixed: the daemon would take a
// form's fields for query parameters.
func TarHeader() http.Header { return http.Header{"Content-Type": {"application/x-tar"}} }

// JSONBody is v as a request's body.
func JSONBody(v any) (io.Reader, int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.NewReader(b), int64(len(b)), nil
}
