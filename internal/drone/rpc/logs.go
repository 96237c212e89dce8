package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/drone/drone-go/drone"
)

// Batch shows lines to those who watch the step live. It isn't repeated inside: what matters is the
// upload at the end, and lines that come late are no use. ErrStreamNotFound says that nobody can
// watch this step any more, unless UpdateStep to running is put again.
func (c *Client) Batch(ctx context.Context, step int64, lines []*drone.Line) error {
	lines = known(lines)
	if len(lines) == 0 {
		return nil
	}
	k := call{name: fmt.Sprintf("send %d lines of step %d", len(lines), step), method: http.MethodPost, path: fmt.Sprintf("/step/%d/logs/batch", step)}
	var err error
	if k.body, err = encode(k.name, lines); err != nil {
		return err
	}
	_, err = c.attempt(ctx, k)
	return err
}

// Upload stores the whole log of the step. A log that the server has already is no error: it keeps
// the first.
func (c *Client) Upload(ctx context.Context, step int64, lines []*drone.Line) error {
	lines = known(lines)
	if lines == nil {
		lines = []*drone.Line{} // [], for null isn't a list
	}
	body, err := encode(fmt.Sprintf("upload the log of step %d", step), lines)
	if err != nil {
		return err
	}
	return c.UploadFrom(ctx, step, func() (io.ReadCloser, error) { return bytesBody{bytes.NewReader(body)}, nil })
}

// UploadFrom is Upload from a source of any size, none of it kept in memory. open is called for
// each attempt and gives the log as a JSON array of lines; it is closed before the next call of
// open, and before UploadFrom returns. A source with a Len method, or a regular file, is sent with
// its length, any other in chunks. An error of open, or of reading, ends the upload.
func (c *Client) UploadFrom(ctx context.Context, step int64, open func() (io.ReadCloser, error)) error {
	k := call{name: fmt.Sprintf("upload the log of step %d", step), method: http.MethodPost, path: fmt.Sprintf("/step/%d/logs/upload", step),
		stream: open, keepsFirst: true}
	return delivered(c.retry(ctx, k, nil))
}

// delivered forgives the error that a second delivery meets.
func delivered(_ outcome, err error) error {
	if errors.Is(err, errDuplicate) {
		return nil
	}
	return err
}

// bytesBody is a buffer that can be closed.
type bytesBody struct{ *bytes.Reader }

func (bytesBody) Close() error { return nil }
