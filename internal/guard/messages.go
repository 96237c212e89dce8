package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// messages is an answer of JSON messages, some of which may be the guard's.
type messages struct {
	*call
	quiet bool // the client wants no progress

	mu      sync.Mutex
	started bool
}

// send writes a message, and the header before the first.
func (o *messages) send(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		o.started = true
		o.w.Header().Set("Content-Type", "application/json")
		o.w.WriteHeader(http.StatusOK)
	}
	if _, err := o.w.Write(append(b, '\n')); err != nil {
		return dockerd.ErrAnswered // the client has gone
	}
	if http.NewResponseController(o.w).Flush() != nil {
		return dockerd.ErrAnswered
	}
	return nil
}

// warn tells the client what isn't done as it wants it, in the words of the builder. A client that
// wants no progress prints all that comes as the image's id.
func (o *messages) warn(warnings []string) error {
	if o.quiet {
		return nil
	}
	for _, w := range warnings {
		b, err := json.Marshal(map[string]string{"stream": "[Warning] " + w + "\n"})
		if err != nil {
			return err
		}
		if err := o.send(b); err != nil {
			return err
		}
	}
	return nil
}

// fail answers with an error, as a message if there have been some.
func (o *messages) fail(err error) error {
	o.mu.Lock()
	started := o.started
	o.mu.Unlock()
	if !started || errors.Is(err, dockerd.ErrAnswered) {
		return err
	}
	return o.endStream(err)
}

// end ends the answer to an archive: copied is the error of copy, sent that of the archive. A
// daemon that has begun to answer stops when its archive does, so of both it's the latter that the
// client is told.
func (o *messages) end(copied, sent error) error {
	if sent != nil && (copied == nil || errors.Is(copied, dockerd.ErrBroken)) {
		return o.fail(sent)
	}
	return copied
}

// copy passes on the daemon's messages; what change makes nil is left out.
func (o *messages) copy(r io.Reader, change func([]byte) []byte) error {
	d := json.NewDecoder(r)
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("%w: %w", dockerd.ErrBroken, err)
		}
		if raw = change(raw); raw == nil {
			continue
		}
		if err := o.send(raw); err != nil {
			return err
		}
	}
}
