package rpc

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drone/runner-go/client"
)

// What a *StatusError wraps, for errors.Is. A lock that somebody else won is
// client.ErrOptimisticLock.
var (
	// ErrUnauthorized is a wrong secret (401, 403).
	ErrUnauthorized = errors.New("DRONE_RPC_SECRET is wrong")
	// ErrNotFound is an id, or a path, that the server doesn't know.
	ErrNotFound = errors.New("not found")
	// ErrTooLarge is a body above a limit: of the server, of a proxy before it (413), or of the
	// database or store behind it.
	ErrTooLarge = errors.New("too large")
	// ErrStreamNotFound is a batch for a step without a live log, for instance after the server
	// restarted. The upload at the end is not concerned.
	ErrStreamNotFound = errors.New("stream: not found")
	// errDuplicate is a row that the server has already.
	errDuplicate = errors.New("already there")
)

type (
	// StatusError is an answer of the server, or of a proxy before it, that isn't a success.
	StatusError struct {
		// Call says what was being done, on what; Server where.
		Call, Server string
		// Status is the HTTP status, and Message the server's own words, shortened.
		Status  int
		Message string
		// Location is where a redirect points.
		Location string

		kind  error
		after time.Duration // Retry-After
	}

	// TransportError is an attempt that got no answer, or only a part of one.
	TransportError struct {
		Call, Server string
		Err          error
	}

	// AnswerError is a success whose content makes no sense.
	AnswerError struct {
		Call, Server string
		Err          error
		// final answers are whole and still wrong: no repetition mends them.
		final bool
	}
)

// Error says what, where, why and what to do.
func (e *StatusError) Error() string {
	status := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	answered := fmt.Sprintf("%s answered %s", e.Server, status)
	if e.Message != "" {
		answered += ": " + e.Message
	}
	switch {
	case errors.Is(e.kind, ErrUnauthorized):
		return fmt.Sprintf("%s: %v: %s; set it to the DRONE_RPC_SECRET of the server", e.Call, ErrUnauthorized, answered)
	case e.Location != "":
		return fmt.Sprintf("%s: %s answered %s and points to %s; %s", e.Call, e.Server, status, e.Location, e.redirectAdvice())
	case errors.Is(e.kind, ErrNotFound) && e.Status == http.StatusNotFound:
		return fmt.Sprintf("%s: %s; see that DRONE_RPC_HOST is a Drone server", e.Call, answered)
	case errors.Is(e.kind, ErrTooLarge):
		return fmt.Sprintf("%s: %s; raise the limit of the proxy before the server, or of the store behind it, or lower DRONE_RUNNER_LOG_LIMIT", e.Call, answered)
	}
	return e.Call + ": " + answered
}

func (e *StatusError) redirectAdvice() string {
	from, err1 := url.Parse(e.Server)
	to, err2 := url.Parse(e.Location)
	if err1 == nil && err2 == nil && from.Scheme == "http" && to.Scheme == "https" {
		return "set DRONE_RPC_PROTO=https"
	}
	return "set DRONE_RPC_HOST and DRONE_RPC_PROTO to where the server is"
}

// Unwrap is the sentinel of the answer, or nil.
func (e *StatusError) Unwrap() error { return e.kind }

// Error says what, where and why.
func (e *TransportError) Error() string {
	text := fmt.Sprintf("%s: %s: %v", e.Call, e.Server, e.Err)
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(e.Err, &authority):
		text += "; make its certificate authority known here, or set DRONE_RPC_SKIP_VERIFY=true"
	case errors.Is(e.Err, http.ErrSchemeMismatch):
		text += "; set DRONE_RPC_PROTO=http"
	}
	return text
}

// Unwrap is the network's own error.
func (e *TransportError) Unwrap() error { return e.Err }

// Error says what, where and why.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s: the answer of %s makes no sense: %v", e.Call, e.Server, e.Err)
}

// Unwrap is the reason.
func (e *AnswerError) Unwrap() error { return e.Err }

// statusError reads an answer that isn't a success. The server answers 500 for whatever its
// database says, so the text of a 500 decides.
func (c *Client) statusError(k call, res *http.Response, body []byte) *StatusError {
	e := &StatusError{Call: k.name, Server: c.base, Status: res.StatusCode, Message: message(body), after: retryAfter(res)}
	text := string(body[:min(len(body), 4096)])
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		e.kind = ErrUnauthorized
	case e.Status == http.StatusNotFound:
		e.kind = ErrNotFound
	case e.Status == http.StatusRequestEntityTooLarge:
		e.kind = ErrTooLarge
	case e.Status == http.StatusConflict:
		e.kind = client.ErrOptimisticLock
	case e.Status >= 300 && e.Status < 400:
		e.Location = "nowhere"
		if to, err := res.Location(); err == nil {
			e.Location = to.Redacted()
		}
	case e.Status < 500:
	case strings.Contains(text, client.ErrOptimisticLock.Error()):
		e.kind = client.ErrOptimisticLock
	case strings.Contains(text, ErrStreamNotFound.Error()):
		e.kind = ErrStreamNotFound
	case strings.Contains(text, "sql: no rows in result set"):
		e.kind = ErrNotFound
	case tooLarge(text):
		e.kind = ErrTooLarge
	case strings.Contains(text, "UNIQUE constraint failed"), // SQLite
		strings.Contains(text, "duplicate key value violates unique constraint"), // PostgreSQL
		strings.Contains(text, "Duplicate entry"):                                // MySQL
		e.kind = errDuplicate
	}
	return e
}

// tooLarge reports whether a database says that what it was given is too much for it.
func tooLarge(text string) bool {
	for _, said := range []string{
		"Data too long for column",     // MySQL: the column
		"max_allowed_packet",           // MySQL: the connection
		"string or blob too big",       // SQLite
		"invalid memory alloc request", // PostgreSQL: a row
		"request body too large",       // the server's own limit
		"EntityTooLarge",               // S3
		"RequestBodyTooLarge",          // Azure
	} {
		if strings.Contains(text, said) {
			return true
		}
	}
	return false
}

// message is the readable part of an error's body, in one line of at most 300 bytes.
func message(body []byte) string {
	var doc struct {
		Message string `json:"message"`
	}
	text := string(body[:min(len(body), 4096)])
	if json.Unmarshal(body, &doc) == nil && doc.Message != "" {
		text = doc.Message
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if strings.HasPrefix(text, "<") {
		return "(a page of HTML)"
	}
	if len(text) > 300 {
		cut := 300
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}

// retryAfter is the pause that the answer asks for, in seconds or as a date, at most two minutes; 0
// if it doesn't.
func retryAfter(res *http.Response) time.Duration {
	const most = 2 * time.Minute
	value := res.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, most)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), most)
	}
	return 0
}

// retryable reports whether the same call may succeed later.
func retryable(err error) bool {
	var status *StatusError
	var bad *AnswerError
	var transport *TransportError
	switch {
	case errors.As(err, &status):
		switch status.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		case http.StatusNotFound:
			// The server has every path that is asked for, and says otherwise what it lacks. A
			// proxy that looks servers up (Traefik, for one) says this while there is none.
			return true
		}
		// A duplicate of something else than what the call brings is the server's trouble of the
		// moment.
		return status.Status >= 500 && (status.kind == nil || errors.Is(status.kind, errDuplicate))
	case errors.As(err, &bad):
		return !bad.final
	}
	return errors.As(err, &transport)
}

// unsure reports whether the server may have done what was asked although the attempt failed so.
func unsure(err error) bool {
	var status *StatusError
	var dial *net.OpError
	switch {
	case errors.As(err, &status):
		return status.Status >= 500 || status.Status == http.StatusRequestTimeout
	case errors.As(err, &dial) && dial.Op == "dial":
		return false
	}
	return true
}
