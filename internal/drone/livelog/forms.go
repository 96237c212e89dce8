package livelog

import (
	"bytes"
	"encoding/json"
	"strings"
)

// minSecret is the length in bytes from which a value is masked, as in Drone. Masking every "a" of
// a log would hide nothing and leave nothing to read.
const minSecret = 2

// forms are the texts to look for so that none of the secrets gets through, longest first being the
// matcher's business. Of each secret:
//
//   - the value without the white space around it, if it has at least minSecret bytes;
//   - each line of a value of several lines, trimmed alike, since tools print and indent such
//     values line by line. A line that is too short to be masked alone is masked where the whole
//     value appears, with LF or CRLF line ends;
//   - each of these as it looks inside a JSON string, if that is different.
//
// Other encodings, base64 for one, are not masked: a step that encodes a secret means to use it.
func forms(secrets []string) []string {
	var out []string
	seen := map[string]bool{}
	add := func(form string) {
		if len(form) >= minSecret && !seen[form] {
			seen[form] = true
			out = append(out, form)
		}
	}
	for _, secret := range secrets {
		plain := []string{}
		secret = strings.TrimSpace(secret)
		lines := strings.Split(newlines.Replace(secret), "\n")
		whole := len(lines) == 1
		for _, line := range lines {
			line = strings.TrimSpace(line)
			plain = append(plain, line)
			// A whole form costs as much memory as the secret is long, so it is made only where the
			// lines alone don't do.
			whole = whole || len(line) > 0 && len(line) < minSecret
		}
		if whole {
			lf := strings.Join(lines, "\n")
			plain = append(plain, secret, lf, strings.ReplaceAll(lf, "\n", "\r\n"))
		}
		for _, form := range plain {
			add(form)
			add(escaped(form, false))
			add(escaped(form, true))
		}
	}
	return out
}

// newlines turns every kind of line end into LF.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// escaped is the text as encoders write it inside a JSON string, with or without <, > and & escaped
// as well.
func escaped(text string, html bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	_ = enc.Encode(text) // A string can always be encoded.
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}
