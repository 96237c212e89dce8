package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// refusal is what the policy forbids: 403, with what was asked for, the rule that forbids it, and the way to get the same thing if there is one.
type refusal struct {
	What string // the field, query parameter or endpoint: "HostConfig.Privileged"
	Rule string // why: "a build's containers are never privileged"
	Way  string // what to do instead, or empty
}

// Error is the message that the client reads.
func (r refusal) Error() string {
	s := r.What + " is refused: " + r.Rule
	if r.Way != "" {
		s += "; " + r.Way
	}
	return s
}

// refuse is a refusal without a way.
func refuse(what, rule string) error { return refusal{What: what, Rule: rule} }

// statusError is an answer with a status and a message: the daemon's own, or one that is worded like it.
type statusError struct {
	status  int
	message string
}

// Error is the message.
func (e statusError) Error() string { return e.message }

// badRequest is what the daemon would answer to nonsense.
func badRequest(format string, args ...any) error {
	return statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// errBroken says that the daemon's answer broke off when some of it had been handed on. It's too late for an error's status, and where no message can say it either, a connection
// that breaks is the only way to tell the client that the answer isn't whole (serveHTTP).
var errBroken = errors.New("the docker daemon's answer broke off")

// errAnswered says that the handler has answered already, or that nobody is left to be answered.
var errAnswered = errors.New("answered")

// isNotFound tells whether the daemon, or the guard in its place, says that there is no such object.
func isNotFound(err error) bool {
	var s statusError
	return errors.As(err, &s) && s.status == http.StatusNotFound
}

// isConflict tells whether the daemon says that the object is in the way of what was asked.
func isConflict(err error) bool {
	var s statusError
	return errors.As(err, &s) && s.status == http.StatusConflict
}

// wordError makes an answer of an error.
func (g *Guard) wordError(err error) statusError {
	var r refusal
	var s statusError
	switch {
	case errors.As(err, &r):
		return statusError{http.StatusForbidden, r.Error()}
	case errors.As(err, &s):
		return statusError{s.status, g.names.unscope(s.message)}
	case errors.Is(err, context.Canceled):
		return statusError{http.StatusServiceUnavailable, "the request was cancelled"}
	default:
		return statusError{http.StatusBadGateway, "docker daemon: " + g.names.unscope(err.Error())}
	}
}

// drainLimit and drainTime bound what is read of a refused request's body, so that a client that writes before it reads gets to see the refusal.
const (
	drainLimit = 64 << 20
	drainTime  = 10 * time.Second
)

// writeError answers in the daemon's shape. The connection ends when the client has more of a body to send than is worth reading, or wanted another protocol.
func writeError(w http.ResponseWriter, r *http.Request, e statusError) {
	h := w.Header()
	for k := range hopHeaders {
		h.Del(k)
	}
	h.Del("Content-Encoding")
	large := r.ContentLength < 0 || r.ContentLength > 64<<10
	if large || r.Header.Get("Upgrade") != "" || r.ProtoMajor != 1 {
		h.Set("Connection", "close")
	}
	control := http.NewResponseController(w)
	if large {
		_ = control.EnableFullDuplex() // HTTP/1.1 always can
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	if r.Method == http.MethodHead {
		return
	}
	err := json.NewEncoder(w).Encode(struct {
		Message string `json:"message"`
	}{e.message})
	if err != nil || !large || control.Flush() != nil {
		return // a client that has gone needs no answer
	}
	if control.SetReadDeadline(time.Now().Add(drainTime)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
	}
}

// quieten makes the server's own complaints (a client that resets, a bad request line) debug lines of log.
func quieten(s *http.Server, log logrus.FieldLogger) {
	s.ErrorLog = stdlog.New(lineWriter(func(line string) { log.Debug(line) }), "", 0)
}

type lineWriter func(string)

var _ io.Writer = lineWriter(nil)

// Write hands over a line.
func (f lineWriter) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}
