package reserved

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
)

func TestHostOf(t *testing.T) {
	for address, want := range map[string]string{
		"":                            "",
		"http://drone.example.com":    "drone.example.com",
		"https://[2001:db8::1]:443/x": "2001:db8::1",
		"proxy:3128":                  "proxy",
		"user:secret@proxy:3128":      "proxy",
		"http://%zz":                  "",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	got := Addresses([]Host{
		{"https://198.51.100.1:8443", "the Drone server"},
		{"http://[2001:db8::5]:5000", "a registry mirror"},
		{"http://%zz", "nothing"},
		{"198.51.100.3:3128", "the proxy"},
	})(t.Context())
	for _, want := range []guard.Reservation{
		{Addresses: netip.MustParsePrefix("198.51.100.1/32"), Purpose: "the Drone server"},
		{Addresses: netip.MustParsePrefix("2001:db8::5/128"), Purpose: "a registry mirror"},
		{Addresses: netip.MustParsePrefix("198.51.100.3/32"), Purpose: "the proxy"},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v isn't reserved", want)
		}
	}
}
