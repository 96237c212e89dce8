package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/system"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// summary is "status name" of each check.
func summary(checks []syscont.Check) string {
	var out []string
	for _, c := range checks {
		out = append(out, fmt.Sprintf("%s %s", c.Status, c.Name))
	}
	return strings.Join(out, ", ")
}

// complete checks that whatever isn't well says what to do.
func complete(t *testing.T, checks []syscont.Check) {
	t.Helper()
	for _, c := range checks {
		if c.Detail == "" || c.Status != syscont.Pass && c.Fix == "" {
			t.Errorf("%q says not what was seen or what to do", c)
		}
	}
}

func TestServer(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"all is well", func(http.ResponseWriter, *http.Request) {}, "pass server, pass secret, pass clock"},
		{"a wrong secret", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "pass server, fail secret, pass clock"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://drone.example.com", http.StatusMovedPermanently)
		}, "fail server, pass clock"},
		{"no Drone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "fail server, pass clock"},
		{"a broken one", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "fail server, pass clock"},
		{"a clock that is off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		}, "pass server, pass secret, warn clock"},
		{"no clock", func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }, "pass server, pass secret, warn clock"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.Path != "/rpc/v2/ping" || r.Header.Get("X-Drone-Token") != "secret" {
					t.Errorf("%s %s with token %q", r.Method, r.URL, r.Header.Get("X-Drone-Token"))
				}
				test.answer(w, r)
			}))
			defer s.Close()
			checks := Doctor{Server: s.URL, Secret: "secret"}.server(t.Context())
			if got := summary(checks); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			complete(t, checks)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		s.Close()
		checks := Doctor{Server: s.URL}.server(t.Context())
		if got := summary(checks); got != "fail server" {
			t.Error(got)
		}
		complete(t, checks)
	})
	t.Run("no address", func(t *testing.T) {
		if got := summary(Doctor{}.server(t.Context())); got != "fail server" {
			t.Error(got)
		}
	})
}

func TestMachine(t *testing.T) {
	all := system.Info{Driver: "overlay2", MemoryLimit: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true}
	none := system.Info{Driver: "vfs"}
	tests := []struct {
		name  string
		check []syscont.Check
		want  string
	}{
		{"a good storage driver", []syscont.Check{storage(all)}, "pass storage driver"},
		{"a slow one", []syscont.Check{storage(none)}, "warn storage driver"},
		{"every cgroup", limits(all), "pass cgroups"},
		{"no cgroups", limits(none), "warn cgroups"},
		{"a disk", []syscont.Check{disk("/")}, "pass disk"},
		{"a disk elsewhere", []syscont.Check{disk("/no/such/folder")}, "warn disk"},
		{"a disk without size", []syscont.Check{disk("/proc")}, "warn disk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := summary(test.check); got != test.want {
				t.Errorf("%s, want %s: %v", got, test.want, test.check)
			}
			complete(t, test.check)
		})
	}
	if c := limits(none)[0]; !strings.Contains(c.Detail, "memory, cpu quota, cpu shares, cpuset, pids") {
		t.Errorf("%s doesn't name what is missing", c)
	}
}

func TestJudgeWhatAContainerSaw(t *testing.T) {
	up := uplink.Uplink{Interface: "eth0", MTU: 1400}
	tests := []struct {
		name   string
		report Report
		want   string
	}{
		{"all is well", Report{Addresses: []string{"10.0.0.1"}, MTU: up.MTU}, "pass dns inside, pass reach inside, pass dns in docker build, pass mtu"},
		{"no name", Report{DNSError: "no such host", MTU: up.MTU}, "fail dns inside, warn dns in docker build, pass mtu"},
		{"no way", Report{Addresses: []string{"10.0.0.1"}, DialError: "no route to host", MTU: up.MTU}, "pass dns inside, fail reach inside, pass dns in docker build, pass mtu"},
		{"packets that are too large", Report{Addresses: []string{"10.0.0.1"}, MTU: up.MTU + 1}, "pass dns inside, pass reach inside, pass dns in docker build, fail mtu"},
		{"an MTU that isn't known", Report{Addresses: []string{"10.0.0.1"}}, "pass dns inside, pass reach inside, pass dns in docker build, warn mtu"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			here := whereabouts{host: "drone.example.com", resolves: true}
			checks := append(judge(test.report, "drone.example.com:80", here), judgeBuild(test.report, here), judgeMTU(test.report, up, nil))
			if got := summary(checks); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			complete(t, checks)
		})
	}
}

func TestAdviceOnNames(t *testing.T) {
	resolver := func(addrs ...string) (r uplink.Resolver) {
		for _, a := range addrs {
			r.Nameservers = append(r.Nameservers, netip.MustParseAddr(a))
		}
		return r
	}
	kubernetes := resolver("10.96.0.10")
	kubernetes.Search = []string{"ci.svc.cluster.local"}
	for name, row := range map[string]struct {
		here whereabouts
		want string
	}{
		"nobody knows it":       {whereabouts{host: "drone"}, "DRONE_RPC_HOST"},
		"extra_hosts":           {whereabouts{host: "drone", resolves: true, inHosts: true, resolver: resolver("172.18.0.1")}, "extra_hosts"},
		"without a dot":         {whereabouts{host: "drone", resolves: true, resolver: resolver("172.18.0.1")}, `"dns-opts": ["timeout:3"]`},
		"in Kubernetes":         {whereabouts{host: "drone", resolves: true, resolver: kubernetes}, `set "dns"`},
		"with one":              {whereabouts{host: "drone.example.com", resolves: true, resolver: resolver("192.0.2.53")}, `set "dns"`},
		"resolvers at loopback": {whereabouts{host: "drone", resolves: true, resolver: resolver("127.0.0.11", "::1")}, "loopback"},
		"IPv6 resolvers":        {whereabouts{host: "drone.example.com", resolves: true, resolver: resolver("fd00::53")}, "IPv4"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := row.here.advice(); !strings.Contains(got, row.want) {
				t.Errorf("%s: lacks %q", got, row.want)
			}
		})
	}
	const hosts = "127.0.0.1 localhost\n10.1.2.3\tdrone Gitea # not-this\n# 10.1.2.4 nor-this\n"
	for host, want := range map[string]bool{"drone": true, "gitea": true, "not-this": false, "nor-this": false, "10.1.2.3": false} {
		if got := hostsName(hosts, host); got != want {
			t.Errorf("%s in hosts: %t", host, got)
		}
	}
}

func TestDialAddress(t *testing.T) {
	for server, want := range map[string]string{
		"http://drone.example.com": "drone.example.com:80", "https://drone.example.com/": "drone.example.com:443",
		"http://drone:8080": "drone:8080", "https://[fd00::1]": "[fd00::1]:443", "http://": "", "%": "",
	} {
		if got, err := dialAddress(server); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", server, got, err, want)
		}
	}
}

// What look makes, it removes, also when the program that it runs isn't the right one.
func TestPrint(t *testing.T) {
	var b strings.Builder
	if err := Print(&b, []syscont.Check{pass("a", "seen"), fail("b", "broken\nin two lines", "mend it"), warn("c", "hm", "look")}); err != nil {
		t.Fatal(err)
	}
	const want = "PASS  a  seen\nFAIL  b  broken in two lines\n         → mend it\nWARN  c  hm\n         → look\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
