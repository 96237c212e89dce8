package livelog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/drone/drone-go/drone"
)

// A card is what a plugin has to show in the user interface beside the log. On its standard output
// it is the JSON of schema and data, in base64, between these two (measured: the escapes of Drone's
// own plugins).
const (
	cardBegin = "\x1b]1338;"
	cardEnd   = "\x1b]0m"
)

// maxCard is how long the base64 of a card may be, in bytes: 1 MiB of JSON. What is longer is text.
const maxCard = (1 << 20) / 3 * 4

// cards is a writer that takes cards out of the text.
//
// The property: what comes out is the text without its cards, whatever the sizes of the writes. An
// escape that isn't one (not ended, too long, not base64, not JSON, without schema or data) is text
// and is passed on as it came, as soon as that is certain. At most one card is held in memory while
// its end is awaited, besides the last one.
//
// A card on a line of its own takes the line with it, so that no empty line is left in its place.
//
// A card holds no secret of the mask's. cards has one writer at a time.
type cards struct {
	w    *masker
	mask *Mask
	// held is an escape so far: cardBegin or a beginning of it, base64, cardEnd or a beginning of
	// it, which is at tail.
	held []byte
	tail int
	// fresh is set at the start of a line; eol is what remains to be seen of the line end after a
	// card on its own line.
	fresh  bool
	eol    lineEnd
	card   *drone.CardInput
	closed bool
}

// lineEnd is how much of a line end may still follow a card.
type lineEnd int

const (
	noEnd  lineEnd = iota
	anyEnd         // CR LF, or LF
	lfEnd          // the LF after a CR that is held
)

// newCards returns one before the masker, whose secrets it takes out of the cards too.
func newCards(w *masker) *cards {
	return &cards{w: w, mask: &Mask{matcher: w.matcher}, fresh: true}
}

// Card is the last card that was complete, and whether there was one.
func (c *cards) Card() (*drone.CardInput, bool) {
	return c.card, c.card != nil
}

// Write takes the cards out of p. It fails as the masker does, and with os.ErrClosed after Close.
func (c *cards) Write(p []byte) (int, error) {
	if c.closed {
		return 0, fmt.Errorf("look for cards in a log: %w", os.ErrClosed)
	}
	n := len(p)
	for len(p) > 0 {
		var err error
		switch {
		case c.eol != noEnd:
			p, err = c.endLine(p)
		case len(c.held) > 0:
			p, err = c.resume(p)
		default:
			i := bytes.IndexByte(p, cardBegin[0])
			if i < 0 {
				i = len(p)
			}
			if err = c.text(p[:i]); err == nil && i < len(p) {
				c.held, c.tail = append(c.held[:0], p[i]), 0
				p = p[i+1:]
			} else {
				p = nil
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Close passes on what was held back. It doesn't close the masker. A second call does nothing.
func (c *cards) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	if c.eol == lfEnd {
		c.held = append(c.held, '\r')
	}
	held := c.held
	c.held = nil
	return c.text(held)
}

// text passes on what is no card.
func (c *cards) text(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c.fresh = p[len(p)-1] == '\n'
	_, err := c.w.Write(p)
	return err
}

// endLine drops the line end after a card, if there is one, and is the rest of p.
func (c *cards) endLine(p []byte) ([]byte, error) {
	was := c.eol
	switch {
	case p[0] == '\n':
		c.eol = noEnd
		return p[1:], nil
	case p[0] == '\r' && was == anyEnd:
		c.eol = lfEnd
		return p[1:], nil
	case was == lfEnd:
		c.eol = noEnd
		return p, c.text([]byte{'\r'})
	}
	c.eol = noEnd
	return p, nil
}

// resume reads on in an escape, and is the rest of p.
func (c *cards) resume(p []byte) ([]byte, error) {
	for i, b := range p {
		n := len(c.held)
		switch {
		case c.tail > 0 && b == cardEnd[n-c.tail]: // In the end mark.
			c.held = append(c.held, b)
			if n+1-c.tail == len(cardEnd) {
				return p[i+1:], c.take()
			}
		case c.tail > 0: // Not the end mark after all; another escape may begin where it did.
			return p[i:], c.restart(c.tail)
		case n < len(cardBegin):
			if b != cardBegin[n] {
				return p[i:], c.restart(n)
			}
			c.held = append(c.held, b)
		case b == cardEnd[0]:
			c.tail = n
			c.held = append(c.held, b)
		case !isBase64(b) || n-len(cardBegin) >= maxCard:
			return p[i:], c.restart(n)
		default:
			c.held = append(c.held, b)
		}
	}
	return nil, nil
}

// restart passes on the first n bytes of held, which are text. What remains is the beginning of an
// end mark, which is as well that of a begin mark.
func (c *cards) restart(n int) error {
	text := c.held[:n:n]
	c.held, c.tail = append([]byte(nil), c.held[n:]...), 0
	if len(c.held) > len("\x1b]") { // The two marks differ after that.
		text = append(text, c.held...)
		c.held = nil
	}
	return c.text(text)
}

// take keeps the card that is held, or passes it on if it is none.
func (c *cards) take() error {
	held := c.held
	card, err := parseCard(held[len(cardBegin):c.tail], c.mask)
	c.held, c.tail = nil, 0
	if err != nil {
		return c.text(held)
	}
	c.card = card
	if c.fresh {
		c.eol = anyEnd
	}
	return nil
}

// isBase64 reports whether b may be in the base64 of a card; line ends may, since base64(1) wraps.
func isBase64(b byte) bool {
	switch {
	case 'A' <= b && b <= 'Z', 'a' <= b && b <= 'z', '0' <= b && b <= '9':
		return true
	}
	return b == '+' || b == '/' || b == '=' || b == '\n' || b == '\r'
}

// parseCard decodes a card and masks it.
func parseCard(encoded []byte, m *Mask) (*drone.CardInput, error) {
	text := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(text, encoded)
	if err != nil {
		return nil, err
	}
	card := new(drone.CardInput)
	if err := json.Unmarshal(text[:n], card); err != nil {
		return nil, err
	}
	if card.Schema == "" || len(card.Data) == 0 || string(card.Data) == "null" {
		return nil, errors.New("a card has a schema and data")
	}
	card.Schema = m.Text(card.Schema)
	card.Data, err = maskJSON(card.Data, m)
	return card, err
}

// maskJSON masks every string of a JSON value, keys as well. A number that holds a secret becomes a
// string, being masked. Without secrets data is returned as it is.
func maskJSON(data json.RawMessage, m *Mask) (json.RawMessage, error) {
	if m.matcher == nil {
		return data, nil
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(maskValue(value, m)); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// maskValue is a decoded JSON value, masked. Its recursion is bounded: encoding/json decodes no
// more than 10,000 levels.
func maskValue(value any, m *Mask) any {
	switch v := value.(type) {
	case string:
		return m.Text(v)
	case json.Number:
		if masked := m.Text(v.String()); masked != v.String() {
			return masked
		}
	case []any:
		for i := range v {
			v[i] = maskValue(v[i], m)
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, val := range v {
			out[m.Text(key)] = maskValue(val, m)
		}
		return out
	}
	return value
}
