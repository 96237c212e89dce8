package server

import (
	"encoding/json"
	"net/http"
	"sync"
)

// Readiness is what /readyz says: whether new builds are taken here, and if not, why. It is safe
// for concurrent use.
type Readiness struct {
	mu     sync.Mutex
	reason string
	facts  map[string]string
	failed int // calls of the Drone server in a row
}

// NewReadiness is not ready, for the reason given. The facts are part of every answer, for whoever
// reads it: the sandbox, the version.
func NewReadiness(reason string, facts map[string]string) *Readiness {
	return &Readiness{reason: reason, facts: facts}
}

// Ready says that builds are taken from now on.
func (r *Readiness) Ready() { r.set("") }

// NotReady says why none are.
func (r *Readiness) NotReady(reason string) { r.set(reason) }

// failures is how many calls of the Drone server fail in a row before a runner that was ready
// isn't: one may meet a proxy that is just restarted.
const failures = 3

// Answered says what a call of the Drone server came to. nil is ready. An error, such as one that
// says that the secret is wrong, is the reason why no builds are taken, at once before the first
// success and from the third in a row on after it.
func (r *Readiness) Answered(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.reason, r.failed = "", 0
		return
	}
	if r.failed++; r.reason != "" || r.failed >= failures {
		r.reason = err.Error()
	}
}

func (r *Readiness) set(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}

// Part serves it at /readyz: 200 when builds are taken, 503 otherwise. check, which may be nil, is
// asked each time; its error is a reason too.
func (r *Readiness) Part(check func() error) Part {
	return Part{Pattern: "GET /readyz", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		reason := r.reason
		r.mu.Unlock()
		if reason == "" && check != nil {
			if err := check(); err != nil {
				reason = err.Error()
			}
		}
		answer := map[string]string{"status": "ready"}
		for k, v := range r.facts {
			answer[k] = v
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if reason != "" {
			answer["status"], answer["reason"] = "not ready", reason
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// A client that is gone is no news.
		_ = json.NewEncoder(w).Encode(answer)
	})}
}
