package resource

import (
	"regexp"
	"strings"
	"testing"
)

// breaks are what YAML takes for the end of a line.
var breaks = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

// FuzzParse holds that no text makes the parser panic, that a finding is in the file, and that it
// says something.
func FuzzParse(f *testing.F) {
	f.Add([]byte("---\nkind: pipeline\nsteps:\n- &a {name: b, image: c, commands: [d]}\n- <<: *a\n...\n"))
	f.Add([]byte("kind: pipeline\nvolumes: [{name: a, host: b}, {claim: c}]\nsteps: [~, {volumes: [a:b], when: {branch: {include: c}}}]\n"))
	f.Add([]byte("\xEF\xBB\xBFkind: secret\r\nname: a\r\nget: {path: b}\r\n--- x\r\npipeline: {}\r\n"))
	f.Add([]byte("kind: pipeline\na: &a [*a]\n? {b: c}\n: d\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, findings := Parse("f", data)
		if file == nil {
			t.Fatal("no file")
		}
		count := 1 + len(breaks.FindAll(data, -1))
		for _, finding := range findings {
			if finding.Message == "" || finding.Severity == "" {
				t.Errorf("a finding says nothing: %+v", finding)
			}
			if finding.Line < 1 || finding.Column < 1 || finding.Line > count || finding.Column > 2+len(data) {
				t.Errorf("not in the file of %d lines: %s", count, finding)
			}
		}
		for _, p := range file.Pipelines {
			if p.Name == "" {
				t.Error("a pipeline without a name")
			}
			for key, at := range p.Keys {
				if at.Line < 1 || at.Line > count {
					t.Errorf("%s at %+v", key, at)
				}
			}
		}
		_ = file.Manifest()
		_ = strings.Join(lines(findings), "\n")
	})
}
