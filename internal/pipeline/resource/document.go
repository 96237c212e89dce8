package resource

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// document is the text of one YAML document, and the place of it in its file.
type document struct {
	text []byte
	// line is how many lines of the file precede the text.
	line int
}

// split cuts a file into its documents, as Drone does and not quite as YAML says: every line that
// begins with "---" separates, whatever follows on it, and one that begins with "..." ends the
// file. Documents of nothing but comments are left out. Carriage returns at line ends and a byte
// order mark go. Lines may be of any length.
func split(data []byte) ([]document, Findings) {
	var (
		docs     []document
		findings Findings
		doc      document
		begun    bool // the document has more than blank lines, comments and directives
		directed bool // a directive was reported
	)
	if bytes.HasPrefix(data, []byte{0xFF, 0xFE}) || bytes.HasPrefix(data, []byte{0xFE, 0xFF}) {
		return nil, Findings{{Severity: Error, Position: Position{1, 1}, Message: "the file is UTF-16: save it as " +
			"UTF-8"}}
	}
	rest := bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	flush := func(next int) {
		if !blank(doc.text) {
			docs = append(docs, doc)
		}
		doc, begun = document{line: next}, false
	}
	for number := 1; len(rest) > 0; number++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		switch {
		case bytes.HasPrefix(line, []byte("---")):
			flush(number)
			if len(docs) > maxDocuments {
				return nil, Findings{{Severity: Error, Position: Position{number, 1},
					Message: fmt.Sprintf("the file has more than %d documents: split the builds among several "+
						"repositories", maxDocuments)}}
			}
			if tail := strings.TrimSpace(strings.TrimLeft(string(line), "-")); tail != "" && tail[0] != '#' {
				findings = append(findings, Finding{Severity: Warning, Position: Position{number, 1},
					Message: fmt.Sprintf("%q after --- is ignored, as Drone ignores it: write it on the next line", shorten(tail))})
			}
		case bytes.HasPrefix(line, []byte("%")) && !begun:
			doc.text = append(doc.text, '\n') // the lines below keep their numbers
			if directed {
				continue
			}
			directed = true
			findings = append(findings, Finding{Severity: Warning, Position: Position{number, 1}, Refused: true,
				Message: fmt.Sprintf("Drone's server refuses this: the directive %q, which is ignored here: "+
					"remove the line", shorten(string(line)))})
		case bytes.HasPrefix(line, []byte("...")):
			if !blank(bytes.ReplaceAll(rest, []byte("---"), nil)) {
				findings = append(findings, Finding{Severity: Warning, Position: Position{number, 1},
					Message: "everything below ... is ignored, as Drone ignores it: begin another document with " +
						"--- alone"})
			}
			rest = nil
		default:
			begun = begun || !blank(line)
			doc.text = append(append(doc.text, line...), '\n')
		}
	}
	flush(0)
	return docs, findings
}

// blank reports whether a text holds nothing but white space, comments and YAML directives.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// unreadable is the place in the document, and a description, of the first byte that YAML doesn't
// allow, for which the YAML library knows no line. The description is empty if there is none.
func (doc document) unreadable() (Position, string) {
	at := Position{Line: doc.line + 1, Column: 1}
	for i := 0; i < len(doc.text); {
		r, size := utf8.DecodeRune(doc.text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return at, fmt.Sprintf("byte %#02x is not UTF-8: save the file as UTF-8", doc.text[i])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7F:
			return at, fmt.Sprintf("control character %#02x is not allowed in YAML: remove it", r)
		case r == '\n':
			at = Position{Line: at.Line + 1}
		}
		at.Column++
		i += size
	}
	return Position{}, ""
}

// shorten cuts a text of the file to what fits into a message.
func shorten(s string) string {
	const limit = 60
	s, _, more := strings.Cut(s, "\n")
	if short := Cut(s, limit*utf8.UTFMax); utf8.RuneCountInString(short) > limit {
		s, more = string([]rune(short)[:limit]), true
	}
	if more {
		s += "…"
	}
	return s
}
