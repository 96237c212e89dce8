package guard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// wordError makes an answer of an error.
func (g *Guard) wordError(err error) apierror.Status {
	var r apierror.Refusal
	var s apierror.Status
	switch {
	case errors.As(err, &r):
		return apierror.New(http.StatusForbidden, r.Error())
	case errors.As(err, &s):
		return apierror.New(s.Code, g.names.Unscope(s.Message))
	case errors.Is(err, context.Canceled):
		return apierror.New(http.StatusServiceUnavailable, "the request was cancelled")
	default:
		return apierror.New(http.StatusBadGateway, "docker daemon: "+g.names.Unscope(err.Error()))
	}
}

// drainLimit and drainTime bound what is read of a refused request's body, so that a client that
// writes before it reads gets to see the refusal.
const (
	drainLimit = 64 << 20
	drainTime  = 10 * time.Second
)

// writeError answers in the daemon's shape. The connection ends when the client has more of a body
// to send than is worth reading, or wanted another protocol.
func writeError(w http.ResponseWriter, r *http.Request, e apierror.Status) {
	h := w.Header()
	for k := range dockerd.HopHeaders {
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
	w.WriteHeader(e.Code)
	if r.Method == http.MethodHead {
		return
	}
	err := json.NewEncoder(w).Encode(struct {
		Message string `json:"message"`
	}{e.Message})
	if err != nil || !large || control.Flush() != nil {
		return // a client that has gone needs no answer
	}
	if control.SetReadDeadline(time.Now().Add(drainTime)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
	}
}
