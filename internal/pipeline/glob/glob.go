// Package glob matches the patterns of `when` and `trigger` against a build, in bounded time.
//
// Drone matches them with version 1 of github.com/bmatcuk/doublestar, which tries every way to
// divide a name among the stars of a pattern: `*a*a*a*a*a*a*a*b` takes longer than a stage may run.
// This package gives the same results, oddities included, and decides each pair of a place in the
// pattern and a place in the name once.
package glob

import (
	"strings"
	"unicode/utf8"
)

// Bounds of one match. No pattern that people write comes near them; one that passes them matches
// nothing.
const (
	// MaxPattern is how many bytes a pattern may have.
	MaxPattern = 4096
	// maxWork is how many characters of patterns a match may look at.
	maxWork = 1 << 20
)

// outcome is the result of a comparison. A malformed pattern isn't the same as one that doesn't
// match: it ends the search among alternatives.
type outcome uint8

const (
	unknown outcome = iota
	no
	yes
	malformed
)

// Match reports whether the pattern matches the whole name. A malformed pattern matches nothing.
func Match(pattern, name string) bool {
	matched, _ := match(pattern, name)
	return matched
}

// match returns the work that was left of maxWork as well; 0 says that the match was given up.
func match(pattern, name string) (matched bool, left int) {
	if len(pattern) > MaxPattern {
		return false, 0
	}
	budget := maxWork
	m := &paths{patterns: split(pattern, '/'), names: split(name, '/'), work: &budget}
	if len(m.patterns)*len(m.names) > maxWork {
		return false, 0
	}
	m.known = make([]outcome, len(m.patterns)*len(m.names))
	out := m.match(0, 0)
	return out == yes && budget > 0, max(0, budget)
}

// paths compares a pattern and a name part by part; ** stands for any number of parts, at least
// one.
type paths struct {
	patterns, names []string
	// known holds the outcome for each pair of parts.
	known []outcome
	work  *int
}

// match compares the parts from p and n on.
func (m *paths) match(p, n int) outcome {
	switch {
	case p == len(m.patterns) && n == len(m.names):
		return yes
	case p == len(m.patterns) || n == len(m.names):
		return no
	}
	at := p*len(m.names) + n
	if out := m.known[at]; out != unknown {
		return out
	}
	if *m.work--; *m.work <= 0 {
		return no
	}
	out := m.decide(p, n)
	m.known[at] = out
	return out
}

func (m *paths) decide(p, n int) outcome {
	if m.patterns[p] != "**" {
		if out := newPart(m.patterns[p], m.names[n], m.work).decide(0, 0, 0); out != yes {
			return out
		}
		return m.match(p+1, n+1)
	}
	if p+1 == len(m.patterns) {
		return yes
	}
	if m.match(p+1, n) == yes || m.match(p, n+1) == yes {
		return yes
	}
	return no
}

// split cuts a text at each separator without a backslash in front. As in doublestar, a separator
// at the end is followed by no part.
func split(text string, separator byte) []string {
	if strings.IndexByte(text, separator) < 0 {
		return []string{text}
	}
	out := []string{}
	for start := 0; start < len(text); {
		end := unescaped(text[start:], separator)
		if end < 0 {
			return append(out, text[start:])
		}
		out = append(out, text[start:start+end])
		start += end + 1
	}
	return out
}

// unescaped is the index of the first such byte without a backslash in front, or -1.
func unescaped(text string, b byte) int {
	for i := range len(text) {
		if text[i] == b && (i == 0 || text[i-1] != '\\') {
			return i
		}
	}
	return -1
}

// part compares one part of a name with one of a pattern. The alternatives {a,b} make patterns of
// their own, which are numbered: equal ones are compared once, however they came about.
type part struct {
	name  string
	bases []string
	ids   map[string]int
	// options are the patterns that the alternatives at a place of a pattern make.
	options map[[2]int][]int
	// near holds the outcomes of the pattern as it is written, far all others.
	near []outcome
	far  map[state]outcome
	work *int
}

// state is a place in a pattern and one in the name. skip is 0, or the step of a star whose pattern
// goes on there.
type state struct{ base, pattern, name, skip int }

func newPart(pattern, name string, work *int) *part {
	m := &part{name: name, bases: []string{pattern}, work: work}
	if size := 2 * (len(pattern) + 1) * (len(name) + 1); strings.IndexByte(pattern, '*') >= 0 && size <= maxWork {
		m.near = make([]outcome, size)
	}
	return m
}

// place is where a state stands in near, or -1.
func (m *part) place(s state) int {
	if s.base != 0 || s.skip > 1 || m.near == nil {
		return -1
	}
	return (2*s.pattern+s.skip)*(len(m.name)+1) + s.name
}

func (m *part) known(s state) outcome {
	if i := m.place(s); i >= 0 {
		return m.near[i]
	}
	return m.far[s]
}

func (m *part) learn(s state, out outcome) {
	if i := m.place(s); i >= 0 {
		m.near[i] = out
		return
	}
	if m.far == nil {
		m.far = map[state]outcome{}
	}
	m.far[s] = out
}

// base is the number of a pattern.
func (m *part) base(pattern string) int {
	if m.ids == nil {
		m.ids = map[string]int{m.bases[0]: 0}
	}
	id, ok := m.ids[pattern]
	if !ok {
		id = len(m.bases)
		m.ids[pattern] = id
		m.bases = append(m.bases, pattern)
	}
	return id
}

// match compares the rest of a pattern with the rest of the name.
func (m *part) match(base, p, n int) outcome {
	at := state{base, p, n, 0}
	if out := m.known(at); out != unknown {
		return out
	}
	if *m.work--; *m.work <= 0 {
		return no
	}
	out := m.decide(base, p, n)
	m.learn(at, out)
	return out
}

// decide reads the pattern up to its next star or alternatives, from which on match goes on.
func (m *part) decide(base, p, n int) outcome {
	pattern, name := m.bases[base], m.name
	switch {
	case p == len(pattern) && n == len(name):
		return yes
	case p == len(pattern), n == len(name) && pattern[p:] != "*":
		return no
	}
	for p < len(pattern) && n < len(name) {
		if *m.work--; *m.work <= 0 {
			return no
		}
		want, width := utf8.DecodeRuneInString(pattern[p:])
		got, step := utf8.DecodeRuneInString(name[n:])
		switch want {
		case '\\':
			p += width
			if want, width = utf8.DecodeRuneInString(pattern[p:]); want == utf8.RuneError {
				return malformed
			}
			if want != got {
				return no
			}
		case '*':
			return m.star(base, p+width, n, step)
		case '{':
			return m.alternatives(base, p+width, n)
		case '[':
			end := unescaped(pattern[p+width:], ']')
			if end < 0 {
				return malformed
			}
			*m.work -= end
			if out := class([]rune(pattern[p+width:p+width+end]), got); out != yes {
				return out
			}
			width += end + 1
		case '?', got:
		default:
			return no
		}
		p, n = p+width, n+step
	}
	rest := pattern[p:]
	if n == len(name) && (rest == "" || rest == "*") || rest == "**" {
		return yes
	}
	return no
}

// star is a * whose pattern goes on at p. It skips as many bytes at a time as the character at n
// has, as doublestar does.
func (m *part) star(base, p, n, step int) outcome {
	if p == len(m.bases[base]) {
		return yes
	}
	out := no
	end := n
	for ; end < len(m.name) && out == no; end += step {
		if known := m.known(state{base, p, end, step}); known != unknown {
			out = known
			break
		}
		if *m.work--; *m.work <= 0 {
			return no
		}
		if m.match(base, p, end) == yes {
			out = yes
		}
	}
	for ; n < end; n += step {
		m.learn(state{base, p, n, step}, out)
	}
	return out
}

// alternatives is a { whose first alternative begins at p. The first } ends it, even that of
// alternatives inside.
func (m *part) alternatives(base, p, n int) outcome {
	bases, ok := m.options[[2]int{base, p}]
	if !ok {
		pattern := m.bases[base]
		end := unescaped(pattern[p:], '}')
		if end < 0 {
			return malformed
		}
		rest := pattern[p+end+1:]
		for _, one := range split(pattern[p:p+end], ',') {
			if *m.work -= len(one) + len(rest); *m.work <= 0 {
				return no
			}
			bases = append(bases, m.base(one+rest))
		}
		if m.options == nil {
			m.options = map[[2]int][]int{}
		}
		m.options[[2]int{base, p}] = bases
	}
	for _, one := range bases {
		if out := m.match(one, 0, n); out != no {
			return out
		}
	}
	return no
}

// class reports whether a character is in a class, the inside of [].
func class(set []rune, got rune) outcome {
	if len(set) == 0 {
		return malformed
	}
	negated := set[0] == '^'
	rest := set
	if negated {
		rest = set[1:]
	}
	// next takes one character, escaped or not.
	next := func() (r rune, ok bool) {
		if len(rest) == 0 || rest[0] == '-' {
			return 0, false
		}
		if rest[0] == '\\' {
			if rest = rest[1:]; len(rest) == 0 {
				return 0, false
			}
		}
		r, rest = rest[0], rest[1:]
		return r, true
	}
	found := false
	for len(rest) > 0 {
		low, ok := next()
		if !ok {
			return malformed
		}
		high := low
		if len(rest) > 0 && rest[0] == '-' {
			rest = rest[1:]
			if high, ok = next(); !ok {
				return malformed
			}
		}
		found = found || low <= got && got <= high
	}
	if found == negated {
		return no
	}
	return yes
}
