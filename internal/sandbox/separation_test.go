package sandbox

import "testing"

func TestDomain(t *testing.T) {
	for _, row := range []struct {
		separation    Separation
		trusted, fork bool
		want          string
	}{
		{"", false, true, ""},
		{Together, false, false, ""},
		{Together, false, true, ""},
		{ByTrust, true, false, ""},
		{ByTrust, true, true, "octo/hello (forks, trusted)"},
		{ByTrust, false, false, "octo/hello"},
		{ByTrust, false, true, "octo/hello (forks)"},
		{ByRepository, true, false, "octo/hello (trusted)"},
		{ByRepository, true, true, "octo/hello (forks, trusted)"},
		{ByRepository, false, false, "octo/hello"},
		{ByRepository, false, true, "octo/hello (forks)"},
	} {
		got := row.separation.Domain("octo/hello", row.trusted, row.fork)
		if got != row.want {
			t.Errorf("%s, trusted %v, fork %v: %q, want %q", row.separation, row.trusted, row.fork, got, row.want)
		}
		if want := row.trusted || got == ""; Trusted(got) != want {
			t.Errorf("%q is trusted: %v", got, !want)
		}
	}
}

func TestParseSeparation(t *testing.T) {
	for text, want := range map[string]Separation{"": ByTrust, " Trust ": ByTrust, "shared": Together, "repository": ByRepository} {
		if got, err := ParseSeparation(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	if got, err := ParseSeparation("all"); err == nil {
		t.Errorf("all is %q", got)
	}
}
