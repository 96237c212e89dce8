package uplink

import (
	"slices"
	"strings"
	"testing"
)

func TestDaemonOptions(t *testing.T) {
	for name, row := range map[string]struct {
		conf string
		want []string // nil: the daemon reads resolv.conf by itself
	}{
		"compose: a network of Docker's with names": {"nameserver 172.18.0.1\noptions ndots:0\n", []string{"timeout:3"}},
		"the same on a host with options":           {"nameserver 172.18.0.1\nsearch corp.example\noptions edns0 trust-ad ndots:0\n", []string{"edns0", "trust-ad"}},
		"ndots on a line of its own":                {"nameserver 172.18.0.1\noptions edns0\noptions ndots:0\n", []string{"edns0"}},
		"docker run on the default bridge":          {"nameserver 192.0.2.53\n", nil},
		"the same, with a search domain":            {"nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n", nil},
		"Kubernetes":                                {"search ci.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", nil},
		"an ndots with nothing to append":           {"nameserver 192.0.2.53\noptions ndots:1\n", []string{"timeout:3"}},
		"Docker's way to write no search domain":    {"nameserver 192.0.2.53\nsearch .\noptions ndots:2\n", []string{"timeout:3"}},
		"a VPN":                                     {"nameserver 100.100.100.100\nsearch tail1234.ts.net corp.example\n", nil},
		"IPv6":                                      {"nameserver fd00::53\nnameserver fe80::1%eth0\noptions ndots:0 use-vc\n", []string{"use-vc"}},
		"nonsense in place of a number":             {"nameserver 192.0.2.53\noptions ndots:many\n", nil},
		"an empty file":                             {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parseResolver(strings.NewReader(row.conf))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.DaemonOptions(); !slices.Equal(got, row.want) {
				t.Errorf("%q, want %q (%+v)", got, row.want, r)
			}
		})
	}
}

func TestParseResolver(t *testing.T) {
	r, err := parseResolver(strings.NewReader("# x\nnameserver 10.1.2.3\nnameserver 127.0.0.11\nnameserver fe80::1%eth0\nnameserver no-address\ndomain a\nsearch b c\n;options x\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Nameservers) != 3 || r.Nameservers[0].String() != "10.1.2.3" || !slices.Equal(r.Search, []string{"b", "c"}) || r.Options != nil {
		t.Errorf("%+v", r)
	}
}
