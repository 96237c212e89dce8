package resource

import (
	"fmt"
	"slices"
	"strings"
)

// Severity is what a finding means for the build.
type Severity string

// The severities: an Error stops the build, a Warning is shown and the build runs.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing wrong with a file, with everything its author needs to mend it: where (file,
// line, pipeline, step, key), what, and in the message what to write instead.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Position
	Pipeline string `json:"pipeline,omitempty"`
	Step     string `json:"step,omitempty"`
	Key      string `json:"key,omitempty"`
	Message  string `json:"message"`
	// Refused marks a warning of what Drone's server refuses before any runner sees it. A build
	// that comes from a server proves that its server doesn't.
	Refused bool `json:"-"`
}

// String is the finding in one line: FILE:LINE:COLUMN: severity: pipeline "P": step "S": key:
// message.
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", f.Line, max(f.Column, 1))
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%s: ", f.Severity)
	if f.Pipeline != "" {
		fmt.Fprintf(&b, "pipeline %q: ", f.Pipeline)
	}
	if f.Step != "" {
		fmt.Fprintf(&b, "step %q: ", f.Step)
	}
	if f.Key != "" {
		fmt.Fprintf(&b, "%s: ", f.Key)
	}
	b.WriteString(f.Message)
	return b.String()
}

// Findings are all that was found, in the order of the file.
type Findings []Finding

// Collector gathers findings, at most maxFindings of each severity, and shortens what they show: a
// file with thousands of faults is reported in a few pages. The zero value is ready.
type Collector struct {
	findings Findings
	seen     map[Severity]int
}

// Full reports whether findings of the severity are counted only.
func (c *Collector) Full(s Severity) bool { return c.seen[s] >= maxFindings }

// Add keeps a finding, or counts it.
func (c *Collector) Add(f Finding) {
	if c.seen == nil {
		c.seen = map[Severity]int{}
	}
	full := c.Full(f.Severity)
	c.seen[f.Severity]++
	if full {
		return
	}
	for _, text := range []*string{&f.File, &f.Pipeline, &f.Step, &f.Key, &f.Message} {
		*text = Cut(*text, maxMessage)
	}
	c.findings = append(c.findings, f)
}

// Findings returns what was gathered, in the order of the file. Where findings were left out, the
// last one of their severity says how many.
func (c *Collector) Findings() Findings {
	out := slices.Clone(c.findings)
	out.Sort()
	for _, severity := range []Severity{Error, Warning} {
		more := c.seen[severity] - maxFindings
		if more <= 0 {
			continue
		}
		for i := len(out) - 1; i >= 0; i-- {
			if out[i].Severity == severity {
				out[i].Message += fmt.Sprintf(" (and %d more findings of this kind)", more)
				break
			}
		}
	}
	return out
}

// Errors are the findings that stop a build.
func (fs Findings) Errors() Findings { return fs.only(Error) }

// Warnings are the findings that don't.
func (fs Findings) Warnings() Findings { return fs.only(Warning) }

func (fs Findings) only(s Severity) Findings {
	var out Findings
	for _, f := range fs {
		if f.Severity == s {
			out = append(out, f)
		}
	}
	return out
}

// Err is nil when no finding is an Error, else an error that prints every one of them, one a line.
func (fs Findings) Err() error {
	if errs := fs.Errors(); len(errs) > 0 {
		return &InvalidError{Findings: errs}
	}
	return nil
}

// InvalidError says that a file can't be run, and holds every reason.
type InvalidError struct{ Findings Findings }

// Error prints every finding, one a line.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}
