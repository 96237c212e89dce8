package syscont

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestDaemonConfig(t *testing.T) {
	settings := DaemonSettings{DataRoot: "/var/lib/docker", MTU: 1400, NetworkMTU: true, RegistryMirrors: []string{"https://mirror.example.com"}, InsecureRegistries: []string{"10.0.0.0/8"}, DNSOptions: []string{"timeout:3"}}
	tests := []struct {
		name     string
		operator string
		want     map[string]string // path → JSON
		err      []string          // what the error names; empty: none
	}{
		{"ours alone", ``, map[string]string{
			"data-root": `"/var/lib/docker"`, "hosts": `["unix:///var/run/docker.sock"]`, "mtu": `1400`,
			"builder.entitlements.network-host": `false`, "builder.entitlements.security-insecure": `false`, "builder.entitlements.device": `false`,
			"builder.gc.enabled": `true`, "log-driver": `"json-file"`, "log-opts.max-size": `"10m"`, "features.containerd-snapshotter": `false`,
			"registry-mirrors": `["https://mirror.example.com"]`, "dns-opts": `["timeout:3"]`, "insecure-registries": `["10.0.0.0/8"]`,
			"default-network-opts.bridge": `{"com.docker.network.driver.mtu":"1400"}`,
		}, nil},
		{"the operator's wins, key by key", `{"mtu": 1200, "log-opts": {"max-size": "1m"}, "dns": ["10.0.0.1"]}`, map[string]string{
			"mtu": `1200`, "log-opts": `{"max-file":"3","max-size":"1m"}`, "dns": `["10.0.0.1"]`, "log-driver": `"json-file"`,
		}, nil},
		{"a key in another case is the same key", `{"MTU": 1200, "Builder": {"GC": {"enabled": false}}}`, map[string]string{
			"mtu": `1200`, "builder.gc.enabled": `false`, "builder.entitlements.network-host": `false`,
		}, nil},
		{"values that change nothing may stay", `{"live-restore": false, "default-runtime": "runc", "iptables": true, "builder": {"entitlements": {"device": false}}}`, nil, nil},
		{"large numbers stay exact", `{"shutdown-timeout": 9007199254740993}`, map[string]string{"shutdown-timeout": `9007199254740993`}, nil},
		{"every key that breaks a promise is named", `{"hosts": ["tcp://0.0.0.0:2375"], "data-root": "/x", "live-restore": true, "iptables": false, "default-runtime": "x",
			"seccomp-profile": "unconfined", "userns-remap": "default", "builder": {"entitlements": {"security-insecure": true}}, "features": {"containerd-snapshotter": true}}`, nil,
			[]string{"hosts", "data-root", "live-restore", "iptables", "default-runtime", "seccomp-profile", "userns-remap", "builder.entitlements.security-insecure", "features.containerd-snapshotter"}},
		{"in another case too", `{"Hosts": [], "BUILDER": {"Entitlements": {"Network-Host": true}}}`, nil, []string{"hosts", "builder.entitlements.network-host"}},
		{"a truth of another type", `{"live-restore": "yes"}`, nil, []string{"live-restore"}},
		{"a key that comes twice", `{"mtu": 1, "MTU": 2}`, nil, []string{`"MTU" comes twice`}},
		{"a key that comes twice below", `{"builder": {"gc": {}, "gc": {}}}`, nil, []string{`"gc" comes twice`}},
		{"no object", `[]`, nil, []string{"JSON object"}},
		{"no JSON", `{"mtu": `, nil, []string{"/etc/docker/daemon.json", "not valid JSON"}},
		{"something behind it", `{} {}`, nil, []string{"follows"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := DaemonConfig(settings, []byte(test.operator))
			if len(test.err) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, want := range test.err {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v doesn't name %s", err, want)
				}
			}
			if err != nil {
				return
			}
			for path, want := range test.want {
				if have := at(t, got, path); have != want {
					t.Errorf("%s: %s, want %s", path, have, want)
				}
			}
		})
	}
}

func TestPools(t *testing.T) {
	networks := func(pools []any) int {
		n := 0
		for _, p := range pools {
			base := netip.MustParsePrefix(p.(map[string]any)["base"].(string))
			n += 1 << (p.(map[string]any)["size"].(int) - base.Bits())
		}
		return n
	}
	if n := networks(pools(nil)); n < 200 {
		t.Errorf("%d networks, want 200 at least", n)
	}
	taken := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16"), netip.MustParsePrefix("172.20.3.4/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}
	got := pools(taken)
	if n := networks(got); n != 14*256 {
		t.Errorf("%d networks beside the taken ones, want %d", n, 14*256)
	}
	for _, p := range got {
		for _, prefix := range taken {
			if base := netip.MustParsePrefix(p.(map[string]any)["base"].(string)); base.Overlaps(prefix) {
				t.Errorf("%s hides %s", base, prefix)
			}
		}
	}
	if n := networks(pools([]netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("10.200.0.0/24")})); n != 127*256 {
		t.Errorf("%d networks where Docker's own range is taken, want %d", n, 127*256)
	}
	if n := networks(pools([]netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("10.0.0.0/8")})); n != 0 {
		t.Errorf("%d networks where all is taken", n)
	}
}

// at follows dots through JSON and gives what is there as JSON.
func at(t *testing.T, raw []byte, path string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	key, rest, more := strings.Cut(path, ".")
	if more {
		return at(t, m[key], rest)
	}
	var v any
	d := json.NewDecoder(strings.NewReader(string(m[key])))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "missing"
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
