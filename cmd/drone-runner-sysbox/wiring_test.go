package main

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/reserved"
)

func TestReserved(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "198.51.100.3:3128")
	t.Setenv("NO_PROXY", "198.51.100.4")
	cfg := &config.Config{}
	cfg.RPC.Proto, cfg.RPC.Host = "https", "198.51.100.1:8443"
	cfg.Docker.RegistryMirrors = []string{"http://[2001:db8::5]:5000", "http://%zz"}
	cfg.Plugins.Secret.Endpoint = "http://198.51.100.2/secrets"
	got := reserved.Addresses(wiring{cfg: cfg}.hosts())(t.Context())
	for _, want := range []guard.Reservation{
		{Addresses: netip.MustParsePrefix("198.51.100.1/32"), Purpose: "the Drone server"},
		{Addresses: netip.MustParsePrefix("2001:db8::5/128"), Purpose: "a registry mirror"},
		{Addresses: netip.MustParsePrefix("198.51.100.2/32"), Purpose: "a plugin of the runner"},
		{Addresses: netip.MustParsePrefix("198.51.100.3/32"), Purpose: "the proxy"},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v isn't reserved", want)
		}
	}
	if slices.ContainsFunc(got, func(r guard.Reservation) bool { return r.Addresses.Contains(netip.MustParseAddr("198.51.100.4")) }) {
		t.Errorf("what needs no proxy is reserved: %v", got)
	}
}
