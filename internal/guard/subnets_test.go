package guard

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reserving is a runner that has addresses to keep.
type reserving struct {
	noRunner
	list []Reservation
}

func (r reserving) Reserved(context.Context) ([]Reservation, error) { return r.list, nil }

func TestSubnetsHideNothing(t *testing.T) {
	b := newFake(t, "1.41", func(o *Options) {
		o.SubnetPools = []netip.Prefix{netip.MustParsePrefix("203.0.0.0/16"), netip.MustParsePrefix("fd00::/8")}
		o.Runner = reserving{list: []Reservation{
			{Addresses: netip.MustParsePrefix("203.0.110.7/32"), Purpose: "the Drone server"},
			{Addresses: netip.MustParsePrefix("fd00:7::/64"), Purpose: "a registry mirror"},
		}}
	})
	for subnet, want := range map[string]string{
		"203.0.111.0/24":  "",
		"203.0.110.0/29":  "would hide the Drone server, which is at 203.0.110.7",
		"203.0.0.0/16":    "would hide the Drone server",
		"203.0.110.7/32":  "would hide the Drone server",
		"203.0.110.8/29":  "",
		"202.0.0.0/7":     "isn't within the runner's pools",
		"192.168.7.0/24":  "isn't within the runner's pools",
		"127.0.0.0/8":     "isn't within the runner's pools",
		"fd00:7::1:0/112": "would hide a registry mirror",
		"fd00:8::/64":     "",
		"2001:db8::/64":   "isn't within the runner's pools",
		"::ffff:0:0/96":   "isn't within the runner's pools",
		"203.0.111.0/024": "invalid subnet",
	} {
		status, message := b.do(t, http.MethodPost, "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"`+subnet+`"}]}}`)
		if (want == "") != (status == http.StatusOK) || !strings.Contains(message, want) {
			t.Errorf("%s: %d %s, want %q", subnet, status, message, want)
		}
	}
}

func TestSubnetPoolsAreTheDaemons(t *testing.T) {
	for _, tt := range []struct{ info, want string }{
		{`{"DefaultAddressPools":[{"Base":"10.96.0.0/12","Size":24},{"Base":"10.1.2.3/16","Size":24}]}`, "[10.96.0.0/12 10.1.0.0/16 fd00::/8]"},
		{`{"DefaultAddressPools":[{"Base":"10.96.0.0/12","Size":24},{"Base":"fd12:3456::/48","Size":64}]}`, "[10.96.0.0/12 fd12:3456::/48]"},
		{`{"DefaultAddressPools":[{"Base":"x"}]}`, "error"},
		{`{}`, fmt.Sprint(append(dockerPools(), netip.MustParsePrefix("fd00::/8")))},
	} {
		dir, err := os.MkdirTemp("", "g")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := filepath.Join(dir, "d")
		serveUnix(t, socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/version") {
				_, _ = io.WriteString(w, `{"ApiVersion":"1.41","MinAPIVersion":"1.12"}`)
				return
			}
			_, _ = io.WriteString(w, tt.info)
		}))
		g, err := New(Options{ID: fakeID, OwnerLabel: fakeOwner, Labels: map[string]string{fakeOwner: fakeID}, Network: fakeID, Daemon: socket})
		if err != nil {
			t.Fatal(err)
		}
		pools, err := g.subnetPools(t.Context())
		got := fmt.Sprint(pools)
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.info, got, err, tt.want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}
