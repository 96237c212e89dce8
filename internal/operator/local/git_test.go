package local

import "testing"

func TestSlugOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://github.com/octocat/hello.git":         "octocat/hello",
		"https://token@github.com/octocat/hello":       "octocat/hello",
		"https://gitlab.com/group/sub/hello.git":       "group/sub/hello",
		"git@github.com:octocat/hello.git":             "octocat/hello",
		"ssh://git@git.example.com:2222/octocat/hello": "octocat/hello",
		"/srv/git/hello.git":                           "",
		"file:///srv/git/hello.git":                    "",
		"https://example.com/hello.git":                "",
		"":                                             "",
		"::":                                           "",
	} {
		if got := slugOf(address); got != want {
			t.Errorf("slugOf(%q) = %q, want %q", address, got, want)
		}
	}
}
