package rpctest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// The names of the calls, for faults and for the journal.
const (
	CallPing       = "ping"
	CallRequest    = "request"
	CallAccept     = "accept"
	CallDetail     = "detail"
	CallUpdate     = "update"
	CallUpdateStep = "update step"
	CallWatch      = "watch"
	CallBatch      = "batch"
	CallUpload     = "upload"
	CallCard       = "card"
	// CallBuild is the record of a build in the API for people.
	CallBuild = "build"
)

type route struct {
	call   string
	method string
	path   *regexp.Regexp
	handle func(s *Server, c *exchange)
}

// exchange is one request and the answer that is being made of it.
type exchange struct {
	call   string
	id     int64
	r      *http.Request
	body   io.Reader // what is left of the request's body
	w      http.ResponseWriter
	status int
	faulty bool // a fault strikes this call
}

// routes are all that a runner is served; nodes/* is 404 with a real server too.
func routes() []route {
	path := func(expr string) *regexp.Regexp { return regexp.MustCompile("^/rpc/v2" + expr + "$") }
	return []route{
		{CallPing, "POST", path("/ping"), func(_ *Server, c *exchange) { c.w.WriteHeader(http.StatusOK) }},
		{CallRequest, "POST", path("/stage"), (*Server).request},
		{CallAccept, "POST", path("/stage/([0-9]+)"), (*Server).accept},
		{CallDetail, "GET", path("/stage/([0-9]+)"), (*Server).detail},
		{CallUpdate, "PUT", path("/stage/([0-9]+)"), (*Server).update},
		{CallUpdateStep, "PUT", path("/step/([0-9]+)"), (*Server).updateStep},
		{CallWatch, "POST", path("/build/([0-9]+)/watch"), (*Server).watch},
		{CallBatch, "POST", path("/step/([0-9]+)/logs/batch"), (*Server).batch},
		{CallUpload, "POST", path("/step/([0-9]+)/logs/upload"), (*Server).upload},
		{CallCard, "POST", path("/step/([0-9]+)/card"), (*Server).card},
		{CallBuild, "GET", regexp.MustCompile("^/api/repos/[^/]+/[^/]+/builds/([0-9]+)$"), (*Server).record},
	}
}

// serve is every request: journal, authorization, faults, route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &exchange{r: r, w: w}
	var handle func(*Server, *exchange)
	for _, route := range s.routes {
		if m := route.path.FindStringSubmatch(r.URL.Path); m != nil && route.method == r.Method {
			c.call, handle = route.call, route.handle
			if len(m) > 1 {
				c.id, _ = strconv.ParseInt(m[1], 10, 64) // digits only; too many are an id that nobody has
			}
		}
	}
	entry := s.arrived(c)
	defer func() { s.answered(entry, c) }()
	peek := &bytes.Buffer{}
	c.body = io.TeeReader(r.Body, &capped{w: peek, left: maxJournalBody})
	defer func() { s.sent(entry, peek.Bytes()) }()

	switch token := r.Header.Get("X-Drone-Token"); {
	case c.call == CallBuild:
		if token != "" {
			s.violation("%s: the secret of the runners is none of this call's business", c)
		}
	case token != s.secret:
		c.reply(http.StatusUnauthorized, nil)
		return
	}
	if f := s.strike(c); f != nil {
		c.faulty = true
		s.fail(f, c, handle)
		return
	}
	if handle == nil {
		c.text(http.StatusNotFound, "404 page not found")
		return
	}
	if !s.fits(c) {
		c.text(http.StatusRequestEntityTooLarge, "<html><head><title>413 Request Entity Too Large</title></head></html>")
		return
	}
	handle(s, c)
}

// fits reports whether a proxy before the server lets the body through. It reads bodies whole, as
// the usual ones do.
func (s *Server) fits(c *exchange) bool {
	limit := s.maxBody.Load()
	if limit <= 0 {
		return true
	}
	if c.r.ContentLength > limit {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(c.body, limit+1))
	c.body = io.MultiReader(bytes.NewReader(body), c.body)
	return err != nil || int64(len(body)) <= limit
}

// reply answers with JSON, as text/plain as the real server does; nil is no body.
func (c *exchange) reply(status int, value any) {
	h := c.w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate, private, max-age=0")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "Thu, 01 Jan 1970 00:00:00 UTC")
	h.Set("X-Accel-Expires", "0")
	c.status = status
	if value == nil {
		c.w.WriteHeader(status)
		return
	}
	body, err := json.Marshal(value)
	if err != nil {
		body, status = []byte(err.Error()), http.StatusInternalServerError
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(body, '\n')) // a runner that has hung up is no concern of the server
}

// text answers with an error in plain words.
func (c *exchange) text(status int, text string) {
	c.status = status
	http.Error(c.w, text, status)
}

// hangUp cuts the connection at once: the panic alone would first read what the runner still sends.
// It doesn't return: a handler that just returned would be taken to have answered 200.
func (c *exchange) hangUp() {
	if conn, _, err := http.NewResponseController(c.w).Hijack(); err == nil {
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// The server's errors, word for word.
func (c *exchange) noRows()    { c.text(http.StatusInternalServerError, "sql: no rows in result set") }
func (c *exchange) lockError() { c.text(http.StatusConflict, "Optimistic Lock Error") }

// capped keeps the first bytes.
type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if n := min(len(p), c.left); n > 0 {
		_, _ = c.w.Write(p[:n]) // a bytes.Buffer doesn't fail
		c.left -= n
	}
	return len(p), nil
}

// pause waits, or until the runner or the server hangs up, and reports whether it waited to the
// end.
func pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
