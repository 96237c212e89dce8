package config

import (
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	tests := []struct {
		name        string
		limits      Limits
		repo, event string
		trusted     bool
		want        string // part of the error; empty is none
	}{
		{"no limits", Limits{}, "octocat/hello", "push", false, ""},
		{"a repository", Limits{Repos: []Glob{"octocat/hello"}}, "octocat/hello", "push", false, ""},
		{"another repository", Limits{Repos: []Glob{"octocat/hello", "acme/*"}}, "octocat/world", "push", false, "the repository octocat/world: it is limited to octocat/hello, acme/* (DRONE_LIMIT_REPOS)"},
		{"a pattern of repositories", Limits{Repos: []Glob{"x/y", "octocat/*"}}, "octocat/hello", "push", false, ""},
		{"a star stops at the slash", Limits{Repos: []Glob{"octo*"}}, "octocat/hello", "push", false, "DRONE_LIMIT_REPOS"},
		{"an event", Limits{Events: []Glob{"push", "tag"}}, "octocat/hello", "tag", false, ""},
		{"another event", Limits{Events: []Glob{"push"}}, "octocat/hello", "pull_request", false, "the event pull_request: it is limited to push (DRONE_LIMIT_EVENTS)"},
		{"a pattern of events", Limits{Events: []Glob{"pro*"}}, "octocat/hello", "promote", false, ""},
		{"trusted", Limits{Trusted: true}, "octocat/hello", "push", true, ""},
		{"untrusted", Limits{Trusted: true}, "octocat/hello", "push", false, "trusted repositories alone, and octocat/hello is not one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.limits.Match(tt.repo, tt.event, tt.trusted)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
