package livelog

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// mask stands where a secret was. It is the spec's Redacted.
const mask = "******"

// maskChunk is how much of a large write is looked at at once, in bytes.
const maskChunk = 32 << 10

// masker is a writer that lets no secret through.
//
// The property: no form of a secret (see forms) that the text contains reaches the writer below,
// whatever the sizes of the writes, and whatever secrets overlap, begin or end with one another.
// Text without secrets is not changed. (Secrets made of asterisks are beyond it: they would be
// found in the mask.)
//
// The algorithm:
//
//  1. An automaton (matcher) reads every byte once. Its state is the longest end of what was read
//     that may still become a secret.
//  2. When a secret ends at a byte, its span is noted, and joined with the spans that it touches or
//     contains.
//  3. What can be in no secret any more, everything before that longest end, is passed on; so is
//     what is in a span already. The rest is held back.
//  4. Of a span, everything but the line ends becomes one mask: lines stay lines, and nothing shows
//     how long a secret is.
//
// So a prompt that ends like a secret begins is held until the next byte or Close tells. There is
// no flush in between: it would break the property.
//
// A masker has one writer at a time.
type masker struct {
	w       io.Writer
	matcher *matcher
	state   int32
	// held is what was read and not yet passed on, spans the secrets in it, in order and apart from
	// each other.
	held  []byte
	spans []span
	// masking is set after a mask: more of the same span adds nothing to it.
	masking bool
	out     []byte
	err     error // the first error, which stays
}

// span is a part of masker.held that is secret: from its first byte up to, not including, to.
type span struct{ from, to int }

// newMasker returns a masker before w.
func newMasker(w io.Writer, m *Mask) *masker {
	return &masker{w: w, matcher: m.matcher}
}

// Write masks p. It fails as the writer below fails, and with os.ErrClosed after Close.
func (m *masker) Write(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.matcher == nil {
		return m.w.Write(p)
	}
	n := 0
	for n < len(p) {
		chunk := p[n:min(n+maskChunk, len(p))]
		from := len(m.held)
		m.held = append(m.held, chunk...)
		m.scan(from)
		if m.err = m.pass(m.known()); m.err != nil {
			return n, m.err
		}
		n += len(chunk)
	}
	return n, nil
}

// Close passes on what was held back, since nothing can follow that makes it a secret. It doesn't
// close the writer below. A second call does nothing.
func (m *masker) Close() error {
	if m.err != nil {
		if errors.Is(m.err, errMaskerClosed) {
			return nil
		}
		return m.err
	}
	err := m.pass(len(m.held))
	m.err = errMaskerClosed
	m.held, m.out = nil, nil
	return err
}

var errMaskerClosed = fmt.Errorf("mask a log: %w", os.ErrClosed)

// scan runs the automaton over held, from that byte on, and notes the spans that it finds.
func (m *masker) scan(from int) {
	a, s, buf := m.matcher, m.state, m.held
	for i := from; i < len(buf); i++ {
		if s == 0 {
			for i+1 < len(buf) && !a.begins(buf[i], buf[i+1]) {
				i++
			}
		}
		s = a.step(s, buf[i])
		if n := a.nodes[s].match; n > 0 {
			m.cover(i+1-int(n), i+1)
		}
	}
	m.state = s
}

// cover notes a secret. Its beginning may have been passed on as part of another one already.
func (m *masker) cover(from, to int) {
	from = max(from, 0)
	for n := len(m.spans); n > 0 && m.spans[n-1].to >= from; n-- {
		from = min(from, m.spans[n-1].from)
		m.spans = m.spans[:n-1]
	}
	m.spans = append(m.spans, span{from, to})
}

// known is how much of held has its fate known.
func (m *masker) known() int {
	n := max(len(m.held)-int(m.matcher.nodes[m.state].depth), 0)
	for _, s := range m.spans {
		if s.from <= n {
			n = max(n, s.to)
		}
	}
	return n
}

// pass writes the first n bytes of held, masked, and forgets them.
func (m *masker) pass(n int) error {
	if n == 0 {
		return nil
	}
	m.out = m.out[:0]
	pos, kept := 0, m.spans[:0]
	for _, s := range m.spans {
		if s.from >= n {
			kept = append(kept, span{s.from - n, s.to - n})
			continue
		}
		m.plain(m.held[pos:s.from])
		m.secret(m.held[s.from:s.to])
		pos = s.to
	}
	m.plain(m.held[pos:n])
	m.spans = kept
	m.held = append(m.held[:0], m.held[n:]...)
	if len(m.out) == 0 {
		return nil
	}
	written, err := m.w.Write(m.out)
	if err == nil && written < len(m.out) {
		err = io.ErrShortWrite
	}
	return err
}

// plain adds text that is no secret to what is written.
func (m *masker) plain(text []byte) {
	if len(text) > 0 {
		m.masking = false
		m.out = append(m.out, text...)
	}
}

// secret adds a mask for text that is secret, and its line ends.
func (m *masker) secret(text []byte) {
	for _, b := range text {
		switch {
		case b == '\n' || b == '\r':
			m.masking = false
			m.out = append(m.out, b)
		case !m.masking:
			m.masking = true
			m.out = append(m.out, mask...)
		}
	}
}
