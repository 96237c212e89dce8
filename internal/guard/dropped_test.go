package guard

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestDropped has a row for each field and parameter that clients send and the guard has no rule
// for: the request does what it does without, and what is dropped is named unless it has never
// meant anything. Put a new one of Docker's into a rule; put one that only clients have here.
func TestDropped(t *testing.T) {
	b := newFake(t, "1.41")
	for _, tt := range []struct {
		name, target, body string
		warns              string // "" warns of nothing
	}{
		{"dockerode: all options in the query", `/containers/create?name=x&Image=img&HostConfig=%7B%22Privileged%22%3Atrue%7D&Cmd=%5B%5D`, `{"Image":"img","name":"x"}`, ""},
		{"dockerode: a signal", `/containers/create?name=x&abortSignal=%7B%7D`, `{"Image":"img","abortSignal":{}}`, ""},
		{"dockerode: parts apart", `/containers/create?name=x`, `{"Image":"img","_query":{},"_body":{}}`, ""},
		{"docker-java: fields of old", `/containers/create?name=x`, `{"Image":"img","PortSpecs":["80"],"HostConfig":{"DiskQuota":5}}`, `"HostConfig.DiskQuota"`},
		{"a field of the host to come", `/containers/create?name=x`, `{"Image":"img","HostConfig":{"Superpower":true}}`, `"HostConfig.Superpower"`},
		{"a field to come", `/containers/create?name=x`, `{"Image":"img","Superpower":{"Privileged":true}}`, `"Superpower"`},
		{"a field of the host's, elsewhere", `/containers/create?name=x`, `{"Image":"img","Privileged":true}`, `"Privileged"`},
		{"a field of a mount", `/containers/create?name=x`, `{"Image":"img","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","Sauce":"/"}]}}`, `"HostConfig.Mounts[0].Sauce"`},
		{"a parameter to come", `/containers/create?name=x&superpower=1`, `{"Image":"img"}`, `"superpower"`},
		{"a parameter in another case", `/containers/create?name=x&Name=y`, `{"Image":"img"}`, `"Name"`},
		{"the same parameter twice", `/containers/create?name=x&name=x`, `{"Image":"img"}`, ""},
		{"a field that is null", `/containers/create?name=x`, `{"Image":"img","Superpower":null}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.daemon.forget()
			status, answer := b.do(t, "POST", "/v1.41"+tt.target, tt.body)
			s := b.daemon.last()
			if status >= 400 || s == nil || !strings.HasSuffix(s.Path, "/containers/create") {
				t.Fatalf("answers %d, and sends %+v", status, s)
			}
			if s.Query != "name=drone-abc.x" || strings.Contains(s.Body, `:true`) || strings.Contains(s.Body, "uper") || strings.Contains(s.Body, "Sauce") {
				t.Errorf("sends %s %s", s.Query, s.Body)
			}
			var made struct{ Warnings []string }
			if err := json.Unmarshal([]byte(answer), &made); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(made.Warnings, "\n"); tt.warns == "" && got != "" || !strings.Contains(got, tt.warns) {
				t.Errorf("warns %q, want %q", got, tt.warns)
			}
		})
	}
	for _, tt := range []struct{ name, raw, known, want, dropped string }{
		{"docker-py: only_ids", "only_ids=1&all=1", "all -only_ids", "all=1", ""},
		{"docker-py: dockerfile and its text", "dockerfile=a&dockerfile=FROM+x", "^dockerfile", "dockerfile=a", ""},
		{"compose: load", "load=true&t=a&t=b", "t+", "t=a&t=b", "load"},
		{"dockerode: what only it knows", "abortSignal=%7B%7D&src=x&t=a", "t+", "t=a", "abortSignal src"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, dropped, err := checkQuery(tt.raw, tt.known)
			if err != nil || q.Encode() != tt.want || strings.Join(dropped, " ") != tt.dropped {
				t.Errorf("becomes %q without %q (%v), want %q without %q", q.Encode(), dropped, err, tt.want, tt.dropped)
			}
		})
	}
	if _, _, err := checkQuery("filters=a&filters=b", "filters"); err == nil {
		t.Error("a parameter may come twice with two values")
	}
}
