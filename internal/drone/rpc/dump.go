package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

const (
	redacted = "******"
	// maxDump is the longest body that a dump shows. A part of one can't be parsed, thus not
	// redacted, so it isn't shown either.
	maxDump = 1 << 20
)

// dumper writes requests and answers for debugging. The property to keep: nothing that it writes
// holds the secret of the RPC, a secret of a repository, or a credential.
//
//  1. Headers that carry credentials show their name only.
//  2. A body is shown only if it parses as JSON, with the values of the keys that carry credentials
//     replaced, or if it is short text that doesn't look like JSON: the server's plain error
//     messages.
//  3. The RPC's own secret is replaced in whatever is left.
type dumper struct {
	w      io.Writer
	bodies bool
	secret string
	mu     sync.Mutex
}

// request writes what is going to be sent. A nil dumper does nothing, here and below.
func (d *dumper) request(req *http.Request, k call) {
	if d == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "> %s %s\n", req.Method, req.URL.Redacted())
	d.header(&b, "> ", req.Header)
	switch {
	case k.stream != nil:
		fmt.Fprintf(&b, "> (a log of %d bytes, not shown)\n", req.ContentLength)
	case k.body != nil:
		d.body(&b, "> ", k.body)
	}
	d.write(b.String())
}

// answer writes what came back.
func (d *dumper) answer(req *http.Request, res *http.Response, body []byte) {
	if d == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "< %s (%s %s)\n", res.Status, req.Method, req.URL.Redacted())
	d.header(&b, "< ", res.Header)
	if len(body) > 0 {
		d.body(&b, "< ", body)
	}
	d.write(b.String())
}

// failure writes that no answer came, or none that could be read.
func (d *dumper) failure(req *http.Request, err error) {
	if d == nil {
		return
	}
	d.write(fmt.Sprintf("< no answer (%s %s): %v\n", req.Method, req.URL.Redacted(), err))
}

func (d *dumper) write(text string) {
	if d.secret != "" {
		text = strings.ReplaceAll(text, d.secret, redacted)
		if quoted, err := json.Marshal(d.secret); err == nil {
			text = strings.ReplaceAll(text, string(quoted[1:len(quoted)-1]), redacted)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// A dump that can't be written is no reason to fail a build.
	_, _ = io.WriteString(d.w, text)
}

func (d *dumper) header(b *strings.Builder, prefix string, h http.Header) {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := strings.Join(h[name], ", ")
		switch name {
		case http.CanonicalHeaderKey(tokenHeader), "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie":
			value = redacted
		}
		fmt.Fprintf(b, "%s%s: %s\n", prefix, name, value)
	}
}

func (d *dumper) body(b *strings.Builder, prefix string, body []byte) {
	if !d.bodies {
		return
	}
	if len(body) > maxDump {
		fmt.Fprintf(b, "%s(%d bytes, not shown)\n", prefix, len(body))
		return
	}
	var doc any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil || dec.More() {
		text := strings.TrimSpace(string(body))
		if strings.ContainsAny(text, "{[") || len(text) > 1024 {
			text = fmt.Sprintf("(%d bytes that are no JSON, not shown)", len(body))
		}
		fmt.Fprintf(b, "%s%s\n", prefix, strings.ReplaceAll(text, "\n", "\n"+prefix))
		return
	}
	shown, err := json.Marshal(redact(doc, ""))
	if err != nil {
		shown = fmt.Appendf(nil, "(%d bytes, not shown)", len(body))
	}
	fmt.Fprintf(b, "%s%s\n", prefix, shown)
}

// redact replaces the values that carry credentials: passwords, tokens and secrets wherever they
// are, all of netrc (its login is a token with some providers), and the data of secrets. under is
// the key that the value belongs to, in lower case.
func redact(value any, under string) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			k := strings.ToLower(key)
			switch {
			case inner == nil:
			case under == "netrc" && k != "machine", under == "secrets" && k == "data",
				isText(inner) && (strings.Contains(k, "password") || strings.Contains(k, "token") || strings.Contains(k, "secret")):
				v[key] = redacted
			default:
				v[key] = redact(inner, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = redact(v[i], under)
		}
	}
	return value
}

func isText(value any) bool { _, ok := value.(string); return ok }
