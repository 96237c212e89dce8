package syscont

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
)

// DaemonSettings are what the runner decides of the daemon's configuration from its own
// environment.
type DaemonSettings struct {
	// DataRoot is the daemon's data folder, where the cache is; the volume.
	DataRoot string
	// Socket is the one address that the daemon listens on; /var/run/docker.sock by default.
	Socket string
	// MTU of the uplink in bytes: networks of builds must not be wider, or packets vanish. 0 leaves
	// the daemon's default.
	MTU int
	// NetworkMTU says that the daemon knows default-network-opts (Docker 24), so that networks
	// which clients create have the MTU as well.
	NetworkMTU bool
	// RegistryMirrors are pull-through mirrors of Docker Hub, as URLs.
	RegistryMirrors []string
	// InsecureRegistries are registries spoken to without TLS, as host:port or CIDR.
	InsecureRegistries []string
	// Taken are networks that this container is on, and the addresses that it reaches its
	// resolvers, its Drone server and its mirrors by: no network of a stage may hide them.
	Taken []netip.Prefix
	// DNSOptions are the options of the resolv.conf in containers, with which names without a dot
	// are found (uplink.Resolver.DaemonOptions); nil leaves them to the daemon.
	DNSOptions []string
	// BuildCacheBytes is what BuildKit's own garbage collection keeps; 0 leaves its default.
	BuildCacheBytes int64
}

// DaemonConfig is the daemon.json that the daemon runs with: ours, with the operator's (the bytes
// of /etc/docker/daemon.json, may be empty) merged over it. Objects are merged key by key,
// everything else is replaced. What would break a promise of the runner is refused, every such key
// at once, by name.
//
// The keys are those of https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file.
func DaemonConfig(s DaemonSettings, operator []byte) ([]byte, error) {
	config := defaults(s)
	if len(bytes.TrimSpace(operator)) > 0 {
		theirs, err := decodeObject(operator)
		if err != nil {
			return nil, fmt.Errorf("/etc/docker/daemon.json: %w", err)
		}
		if err := refuse(theirs); err != nil {
			return nil, err
		}
		merge(config, theirs)
	}
	return json.MarshalIndent(config, "", "  ")
}

func defaults(s DaemonSettings) map[string]any {
	gc := map[string]any{"enabled": true}
	if s.BuildCacheBytes > 0 {
		gc["defaultKeepStorage"] = fmt.Sprintf("%dB", s.BuildCacheBytes)
	}
	config := map[string]any{
		"data-root": s.DataRoot,
		"hosts":     []any{"unix://" + or(s.Socket, "/var/run/docker.sock")},
		"builder": map[string]any{
			"gc": gc,
			// moby has the first and the last of these on unless told otherwise; each lets a build
			// out of its container.
			"entitlements": map[string]any{"network-host": false, "security-insecure": false, "device": false},
		},
		"log-driver":            "json-file",
		"log-opts":              map[string]any{"max-size": "10m", "max-file": "3"},
		"default-address-pools": pools(s.Taken),
		// Sysbox mounts a folder of its own over the snapshotter that Docker 29 uses by default, so
		// that a volume for the data folder alone would lose the cache
		// (https://github.com/nestybox/sysbox/issues/1021).
		"features": map[string]any{"containerd-snapshotter": false},
	}
	if s.MTU > 0 {
		config["mtu"] = s.MTU
		if s.NetworkMTU {
			config["default-network-opts"] = map[string]any{"bridge": map[string]any{bridge.OptionMTU: fmt.Sprint(s.MTU)}}
		}
	}
	if len(s.DNSOptions) > 0 {
		config["dns-opts"] = s.DNSOptions
	}
	if len(s.RegistryMirrors) > 0 {
		config["registry-mirrors"] = s.RegistryMirrors
	}
	if len(s.InsecureRegistries) > 0 {
		config["insecure-registries"] = s.InsecureRegistries
	}
	return config
}

// pools are /24 networks in blocks of 256, less the blocks that a taken network touches: those of
// 172.16.0.0/12, Docker's own range, which are at least 2,000 networks where Docker's default has
// 31. Where all of that is taken, as by a route of a VPN, they are the upper half of 10.0.0.0/8.
func pools(taken []netip.Prefix) []any {
	free := func(first netip.Addr, blocks int) []any {
		var out []any
		at := first.As4()
		for n := range blocks {
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{at[0], at[1] + byte(n), 0, 0}), 16)
			if !slices.ContainsFunc(taken, block.Overlaps) {
				out = append(out, map[string]any{"base": block.String(), "size": 24})
			}
		}
		return out
	}
	if out := free(netip.MustParseAddr("172.16.0.0"), 16); len(out) > 0 {
		return out
	}
	return free(netip.MustParseAddr("10.128.0.0"), 128)
}

// refused are the keys that an operator can't set, with the reason and the way. A nil test refuses
// every value.
var refused = []struct {
	path []string
	bad  func(any) bool
	why  string
}{
	{path: []string{"hosts"}, why: "a second address would lead around the guard; steps reach Docker by their guarded socket"},
	{path: []string{"data-root"}, why: "the runner locks, watches and keeps its data folder; mount your volume at /var/lib/docker instead"},
	{path: []string{"graph"}, why: "the runner locks, watches and keeps its data folder; mount your volume at /var/lib/docker instead"},
	{path: []string{"exec-root"}, why: "the runner starts and cleans the daemon itself"},
	{path: []string{"pidfile"}, why: "the runner starts and cleans the daemon itself"},
	{path: []string{"containerd"}, why: "a containerd outside of this daemon would run containers that the runner can't account for"},
	{path: []string{"live-restore"}, bad: isTrue, why: "containers would outlive the daemon, and the builds that they belong to"},
	{path: []string{"seccomp-profile"}, why: "steps run with Docker's own seccomp profile"},
	{path: []string{"runtimes"}, why: "steps run in runc"},
	{path: []string{"default-runtime"}, bad: not("runc", "io.containerd.runc.v2"), why: "steps run in runc"},
	{path: []string{"userns-remap"}, why: "the system container is the user namespace already"},
	{path: []string{"cgroup-parent"}, why: "the runner accounts for builds by their cgroup"},
	{path: []string{"iptables"}, bad: isFalse, why: "builds would no longer be kept apart on the network"},
	{path: []string{"builder", "entitlements", "network-host"}, bad: isTrue, why: "a build could join the daemon's own network"},
	{path: []string{"builder", "entitlements", "security-insecure"}, bad: isTrue, why: "a build could run privileged"},
	{path: []string{"builder", "entitlements", "device"}, bad: isTrue, why: "a build could ask for devices"},
	{path: []string{"features", "containerd-snapshotter"}, bad: isTrue, why: "under Sysbox the cache would be lost (https://github.com/nestybox/sysbox/issues/1021)"},
}

func refuse(theirs map[string]any) error {
	var errs []error
	for _, r := range refused {
		v, ok := lookup(theirs, r.path)
		if ok && (r.bad == nil || r.bad(v)) {
			errs = append(errs, fmt.Errorf("/etc/docker/daemon.json: %s can't be set here: %s", strings.Join(r.path, "."), r.why))
		}
	}
	return errors.Join(errs...)
}

func isTrue(v any) bool  { return v != false }
func isFalse(v any) bool { return v != true }
func not(allowed ...string) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return !ok || !slices.Contains(allowed, s) }
}

// lookup follows a path of keys; like Docker's own decoder it doesn't mind the case of them.
func lookup(m map[string]any, path []string) (any, bool) {
	for k, v := range m {
		if !strings.EqualFold(k, path[0]) {
			continue
		}
		if len(path) == 1 {
			return v, true
		}
		inner, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		return lookup(inner, path[1:])
	}
	return nil, false
}

// merge lays src over dst. A key that differs from one of dst in case alone is that key: Docker's
// decoder would take either, and which one is chance.
func merge(dst, src map[string]any) {
	for k, v := range src {
		for have := range dst {
			if strings.EqualFold(have, k) {
				k = have
				break
			}
		}
		inner, ok := v.(map[string]any)
		if old, both := dst[k].(map[string]any); ok && both {
			merged := maps.Clone(old)
			merge(merged, inner)
			v = merged
		}
		dst[k] = v
	}
}

// decodeObject decodes one JSON object and nothing after it, and refuses keys that come twice:
// which of them a daemon would take is chance.
func decodeObject(b []byte) (map[string]any, error) {
	if err := noDuplicates(json.NewDecoder(bytes.NewReader(b))); err != nil {
		return nil, err
	}
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return out, nil
}

// noDuplicates reads one value.
func noDuplicates(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("not valid JSON: %w", err)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if delim == '{' {
			k, err := d.Token()
			if err != nil {
				return fmt.Errorf("not valid JSON: %w", err)
			}
			key := strings.ToLower(fmt.Sprint(k))
			if seen[key] {
				return fmt.Errorf("the key %q comes twice", k)
			}
			seen[key] = true
		}
		if err := noDuplicates(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
