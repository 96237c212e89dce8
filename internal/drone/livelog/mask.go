package livelog

import "strings"

// Mask knows the secrets of a stage. It is immutable: the outputs of all its steps share one.
type Mask struct {
	matcher *matcher
}

// NewMask returns a mask for secrets. Values of fewer than two bytes, white space around them not
// counted, are not masked.
func NewMask(secrets []string) *Mask {
	return &Mask{matcher: newMatcher(forms(secrets))}
}

// Text returns the text without the secrets: for a message or a card that goes another way than
// through an Output. It may be called concurrently.
func (m *Mask) Text(text string) string {
	if m.matcher == nil {
		return text
	}
	var b strings.Builder
	one := newMasker(&b, m)
	_, _ = one.Write([]byte(text)) // A Builder doesn't fail.
	_ = one.Close()
	return b.String()
}
