package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// minimal is what no runner goes without.
func minimal(more ...string) []string {
	return append([]string{"PATH=/bin", "DRONE_RPC_HOST=drone.example.com", "DRONE_RPC_SECRET=hunter2"}, more...)
}

// load is Load of what has to be good.
func load(t *testing.T, environ ...string) (*Config, []string) {
	t.Helper()
	cfg, notices, err := Load(environ)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg, notices
}

// prefixes has networks compared as such.
var prefixes = cmpopts.EquateComparable(netip.Prefix{})

func TestDefaults(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		RPC:       RPC{Proto: "http", Host: "drone.example.com", Secret: "hunter2"},
		HTTP:      HTTP{Bind: ":3000", Proto: "http"},
		Dashboard: Dashboard{Realm: "MyRealm"},
		Runner: Runner{
			Sandbox: "sysbox", Cells: "trust", CellsWarm: 2, CellsIdle: 10 * time.Minute, Name: host, Capacity: 2, CloneImage: "drone/git:latest", LogLimit: 10 << 20, ServiceWait: time.Minute, ReportTimeout: 10 * time.Minute, ReapInterval: 10 * time.Minute, State: "/var/lib/drone-runner",
			Block: Networks{netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("fd00:ec2::254/128")},
		},
		Platform:  Platform{OS: "linux", Arch: runtime.GOARCH},
		Resources: Resources{Pids: 8192},
		Docker:    Docker{StreamPull: true},
		Cache:     Cache{High: Mark{Percent: 80}, Low: Mark{Percent: 60}},
		Tmate:     Tmate{Image: "drone/drone-runner-docker:1"},
	}
	got, notices := load(t, minimal()...)
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Error(diff)
	}
	if len(notices) > 0 {
		t.Errorf("notices: %q", notices)
	}
	if got.RPC.Address() != "http://drone.example.com" {
		t.Errorf("address %q", got.RPC.Address())
	}
}

func TestValues(t *testing.T) {
	tests := []struct {
		name  string
		value string // of the variable that name begins with
		want  any
		get   func(*Config) any
	}{
		{"DRONE_DEBUG", "true", true, func(c *Config) any { return c.Log.Debug }},
		{"DRONE_DEBUG as a digit", "1", true, func(c *Config) any { return c.Log.Debug }},
		{"DRONE_TRACE", "true", true, func(c *Config) any { return c.Log.Trace }},
		{"DRONE_RPC_PROTO", "https", "https", func(c *Config) any { return c.RPC.Proto }},
		{"DRONE_RPC_SKIP_VERIFY", "true", true, func(c *Config) any { return c.RPC.SkipVerify }},
		{"DRONE_RPC_DUMP_HTTP", "true", true, func(c *Config) any { return c.RPC.DumpHTTP }},
		{"DRONE_RPC_DUMP_HTTP_BODY", "true", true, func(c *Config) any { return c.RPC.DumpHTTPBody }},
		{"DRONE_HTTP_BIND", "127.0.0.1:80", "127.0.0.1:80", func(c *Config) any { return c.HTTP.Bind }},
		{"DRONE_HTTP_BIND as a port", "3001", ":3001", func(c *Config) any { return c.HTTP.Bind }},
		{"DRONE_HTTP_BIND with IPv6", "[::1]:3001", "[::1]:3001", func(c *Config) any { return c.HTTP.Bind }},
		{"DRONE_UI_USERNAME", "root", "root", func(c *Config) any { return c.Dashboard.Username }},
		{"DRONE_RUNNER_NAME", "r1", "r1", func(c *Config) any { return c.Runner.Name }},
		{"DRONE_RUNNER_CAPACITY", "20", 20, func(c *Config) any { return c.Runner.Capacity }},
		{"DRONE_RUNNER_MAX_PROCS", "4", 4, func(c *Config) any { return c.Runner.MaxProcs }},
		{"DRONE_RUNNER_ENVIRON", "A:1, B:x:y ,", Pairs[string]{"A": "1", "B": "x:y "}, func(c *Config) any { return c.Runner.Environ }},
		{"DRONE_RUNNER_SECRETS", "token:p:w", Pairs[Secret]{"token": "p:w"}, func(c *Config) any { return c.Runner.Secrets }},
		{"DRONE_RUNNER_LABELS", "zone:eu,size:big", Pairs[string]{"zone": "eu", "size": "big"}, func(c *Config) any { return c.Runner.Labels }},
		{"DRONE_RUNNER_VOLUMES", "/certs:/certs:ro,cache:/cache,/a:/b:rw", []Volume{{"/certs", "/certs", true}, {"cache", "/cache", false}, {"/a", "/b", false}},
			func(c *Config) any { return c.Runner.Volumes }},
		{"DRONE_RUNNER_SHARED_PATHS", "/cache/,/var/tmp/npm", []string{"/cache", "/var/tmp/npm"}, func(c *Config) any { return c.Runner.SharedPaths }},
		{"DRONE_RUNNER_HOST_PATHS", "/srv/cache/, /data", []string{"/srv/cache", "/data"}, func(c *Config) any { return c.Runner.HostPaths }},
		{"DRONE_RUNNER_NETWORKS", "proxy, db", []string{"proxy", "db"}, func(c *Config) any { return c.Runner.Networks }},
		{"DRONE_RUNNER_NETWORK_OPTS", "com.docker.network.driver.mtu:1400", Pairs[string]{"com.docker.network.driver.mtu": "1400"}, func(c *Config) any { return c.Runner.NetworkOpts }},
		{"DRONE_RUNNER_CLONE_IMAGE", "my/git:1", "my/git:1", func(c *Config) any { return c.Runner.CloneImage }},
		{"DRONE_RUNNER_DOCKER_PLUGINS", "docker.io/octo/image, quay.io/octo/build", []string{"octo/image", "quay.io/octo/build"}, func(c *Config) any { return c.Runner.DockerPlugins }},
		{"DRONE_RUNNER_PRIVILEGED", "refuse", true, func(c *Config) any { return c.Runner.RefusePrivileged() }},
		{"DRONE_RUNNER_LOG_LIMIT", "64kb", Bytes(64 << 10), func(c *Config) any { return c.Runner.LogLimit }},
		{"DRONE_RUNNER_REPORT_TIMEOUT", "30m", 30 * time.Minute, func(c *Config) any { return c.Runner.ReportTimeout }},
		{"DRONE_RUNNER_LOG_LIMIT in bytes", "5000000", Bytes(5000000), func(c *Config) any { return c.Runner.LogLimit }},
		{"DRONE_RUNNER_STEP_TIMEOUT", "45m", 45 * time.Minute, func(c *Config) any { return c.Runner.StepTimeout }},
		{"DRONE_RUNNER_SERVICE_WAIT", "5m", 5 * time.Minute, func(c *Config) any { return c.Runner.ServiceWait }},
		{"DRONE_RUNNER_BLOCK", "none", Networks(nil), func(c *Config) any { return c.Runner.Block }},
		{"DRONE_RUNNER_CACHE_SIZE", "10GB", Bytes(10 << 30), func(c *Config) any { return c.Cache.Size }},
		{"DRONE_RUNNER_REAP_INTERVAL", "0", time.Duration(0), func(c *Config) any { return c.Runner.ReapInterval }},
		{"DRONE_RUNNER_DRAIN_TIMEOUT", "1h30m", 90 * time.Minute, func(c *Config) any { return c.Runner.DrainTimeout }},
		{"DRONE_RUNNER_STATE", "/var/tmp/x", "/var/tmp/x", func(c *Config) any { return c.Runner.State }},
		{"DRONE_PLATFORM_ARCH", "arm64", "arm64", func(c *Config) any { return c.Platform.Arch }},
		{"DRONE_PLATFORM_KERNEL", "5.1", "5.1", func(c *Config) any { return c.Platform.Kernel }},
		{"DRONE_PLATFORM_VARIANT", "v7", "v7", func(c *Config) any { return c.Platform.Variant }},
		{"DRONE_LIMIT_REPOS", "octocat/*,acme/x", []Glob{"octocat/*", "acme/x"}, func(c *Config) any { return c.Limits.Repos }},
		{"DRONE_LIMIT_EVENTS", "push", []Glob{"push"}, func(c *Config) any { return c.Limits.Events }},
		{"DRONE_LIMIT_TRUSTED", "true", true, func(c *Config) any { return c.Limits.Trusted }},
		{"DRONE_MEMORY_LIMIT", "512m", Bytes(512 << 20), func(c *Config) any { return c.Resources.Memory }},
		{"DRONE_MEMORY_SWAP_LIMIT", "-1", Bytes(-1), func(c *Config) any { return c.Resources.MemorySwap }},
		{"DRONE_CPU_QUOTA", "50000", int64(50000), func(c *Config) any { return c.Resources.CPUQuota }},
		{"DRONE_CPU_PERIOD", "100000", int64(100000), func(c *Config) any { return c.Resources.CPUPeriod }},
		{"DRONE_RUNNER_PIDS_LIMIT", "512", int64(512), func(c *Config) any { return c.Resources.Pids }},
		{"DRONE_CPU_SHARES", "512", int64(512), func(c *Config) any { return c.Resources.CPUShares }},
		{"DRONE_CPU_SET", "0-2,4", "0-2,4", func(c *Config) any { return c.Resources.CPUSet }},
		{"DRONE_SHM_SIZE", "64MB", Bytes(64 << 20), func(c *Config) any { return c.Resources.ShmSize }},
		{"DRONE_ENV_PLUGIN_ENDPOINT", "http://env:3000", "http://env:3000", func(c *Config) any { return c.Plugins.Environ.Endpoint }},
		{"DRONE_SECRET_PLUGIN_TOKEN", "t", Secret("t"), func(c *Config) any { return c.Plugins.Secret.Token }},
		{"DRONE_REGISTRY_PLUGIN_SKIP_VERIFY", "true", true, func(c *Config) any { return c.Plugins.Registry.SkipVerify }},
		{"DRONE_NETRC_CLONE_ONLY", "true", true, func(c *Config) any { return c.Netrc.CloneOnly }},
		{"DRONE_DOCKER_CONFIG", "/root/.docker/config.json", "/root/.docker/config.json", func(c *Config) any { return c.Docker.Config }},
		{"DRONE_DOCKER_STREAM_PULL", "false", false, func(c *Config) any { return c.Docker.StreamPull }},
		{"DRONE_RUNNER_PULL_FALLBACK", "always", "always", func(c *Config) any { return c.Docker.PullFallback }},
		{"DRONE_RUNNER_PRELOAD_IMAGES", "golang:1.26, team/x", []string{"golang:1.26", "team/x"}, func(c *Config) any { return c.Cache.PreloadImages }},
		{"DRONE_RUNNER_CACHE_HIGH", "90 %", Mark{Percent: 90}, func(c *Config) any { return c.Cache.High }},
		{"DRONE_RUNNER_CACHE_HIGH for none", "0", Mark{}, func(c *Config) any { return c.Cache.High }},
		{"DRONE_RUNNER_CACHE_LOW", "200GB", Mark{Bytes: 200 << 30}, func(c *Config) any { return c.Cache.Low }},
		{"DRONE_RUNNER_CACHE_KEEP", "golang:*,/cache/npm", []Glob{"golang:*", "/cache/npm"}, func(c *Config) any { return c.Cache.Keep }},
		{"DRONE_RUNNER_CELLS", "repository", "repository", func(c *Config) any { return string(c.Runner.Cells) }},
		{"DRONE_RUNNER_CELLS in capitals", " Shared", "shared", func(c *Config) any { return string(c.Runner.Cells) }},
		{"DRONE_RUNNER_CELLS_WARM", "0", 0, func(c *Config) any { return c.Runner.CellsWarm }},
		{"DRONE_RUNNER_CELLS_IDLE", "1h", time.Hour, func(c *Config) any { return c.Runner.CellsIdle }},
		{"DRONE_RUNNER_SANDBOX", "userns", "userns", func(c *Config) any { return string(c.Runner.Sandbox) }},
		{"DRONE_RUNNER_SANDBOX for development", "none", "none", func(c *Config) any { return string(c.Runner.Sandbox) }},
		{"DRONE_RUNNER_SANDBOX in capitals", " Sysbox", "sysbox", func(c *Config) any { return string(c.Runner.Sandbox) }},
		{"DRONE_RUNNER_REGISTRY_MIRRORS", "https://mirror.example.com/, http://hub_mirror:5000,http://[::1]:5000", []string{"https://mirror.example.com", "http://hub_mirror:5000", "http://[::1]:5000"},
			func(c *Config) any { return c.Docker.RegistryMirrors }},
		{"DRONE_RUNNER_INSECURE_REGISTRIES", "registry, registry-1.local:5000,10.0.0.0/8,10.0.0.5:80,[fd00::1]:5000,[fd00::2],fd00::/64",
			[]string{"registry", "registry-1.local:5000", "10.0.0.0/8", "10.0.0.5:80", "[fd00::1]:5000", "[fd00::2]", "fd00::/64"}, func(c *Config) any { return c.Docker.InsecureRegistries }},
		{"DRONE_RUNNER_NETWORKS with nothing in it", " , ", []string(nil), func(c *Config) any { return c.Runner.Networks }},
		{"DRONE_RUNNER_VOLUMES with gaps", "/a:/b, ,/c:/d,", []Volume{{"/a", "/b", false}, {"/c", "/d", false}}, func(c *Config) any { return c.Runner.Volumes }},
		{"DRONE_RUNNER_CAPACITY among spaces", " 3 ", 3, func(c *Config) any { return c.Runner.Capacity }},
		{"DRONE_RPC_SECRET as it is", " s ", Secret(" s "), func(c *Config) any { return c.RPC.Secret }},
		{"DRONE_DOCKER_STREAM_PULL empty is absent", "", true, func(c *Config) any { return c.Docker.StreamPull }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name, _, _ := strings.Cut(tt.name, " ")
			cfg, notices := load(t, minimal(name+"="+tt.value)...)
			if diff := cmp.Diff(tt.want, tt.get(cfg)); diff != "" {
				t.Error(diff)
			}
			if len(notices) > 0 {
				t.Errorf("notices: %q", notices)
			}
		})
	}
}

// TestVolumeModes starts a runner with the modes of Docker that Drone's runner drops.
func TestVolumeModes(t *testing.T) {
	for _, mode := range idleModes() {
		cfg, notices := load(t, minimal("DRONE_RUNNER_VOLUMES=/a:/b:"+mode+", /c:/d:ro")...)
		if diff := cmp.Diff([]Volume{{"/a", "/b", false}, {"/c", "/d", true}}, cfg.Runner.Volumes); diff != "" {
			t.Error(diff)
		}
		if len(notices) != 1 || !strings.Contains(notices[0], `"/a:/b:`+mode+`": the mode `+mode+` has no effect here`) {
			t.Errorf("notices of %s: %q", mode, notices)
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    []string // one part of each line of the error
	}{
		{"nothing is set", nil, []string{"DRONE_RPC_HOST is required", "DRONE_RPC_SECRET is required"}},
		{"everything at once", []string{"DRONE_RUNNER_CAPACITY=lots", "DRONE_DEBUG=maybe", "DRONE_RUNNER_DRAIN_TIMEOUT=90", "DRONE_RPC_SECRT=x", "DRONE_RPC_HOST=h"}, []string{
			"DRONE_RPC_SECRT is unknown (did you mean DRONE_RPC_SECRET?)",
			`DRONE_DEBUG: "maybe" is neither true nor false`,
			"DRONE_RPC_SECRET is required",
			`DRONE_RUNNER_CAPACITY: "lots" is not a whole number`,
			`DRONE_RUNNER_DRAIN_TIMEOUT: "90" is not a duration: write a number with a unit`,
		}},
		{"capacity 0", minimal("DRONE_RUNNER_CAPACITY=0"), []string{"DRONE_RUNNER_CAPACITY: 0: a runner without capacity"}},
		{"capacity too large to count", minimal("DRONE_RUNNER_CAPACITY=99999999999999999999"), []string{"is not a whole number"}},
		{"negative procs", minimal("DRONE_RUNNER_MAX_PROCS=-1"), []string{"DRONE_RUNNER_MAX_PROCS: -1 is negative"}},
		{"negative step timeout", minimal("DRONE_RUNNER_STEP_TIMEOUT=-1s"), []string{`"-1s" is negative`}},
		{"negative wait for services", minimal("DRONE_RUNNER_SERVICE_WAIT=-1s"), []string{`"-1s" is negative`}},
		{"negative reaper", minimal("DRONE_RUNNER_REAP_INTERVAL=-5m"), []string{`"-5m0s" is negative`}},
		{"negative drain", minimal("DRONE_RUNNER_DRAIN_TIMEOUT=-1s"), []string{`"-1s" is negative`}},
		{"map without value", minimal("DRONE_RUNNER_SECRETS=a:1,hush"), []string{"DRONE_RUNNER_SECRETS: its pair no. 2 is not KEY:value"}},
		{"map without key", minimal("DRONE_RUNNER_LABELS=:x"), []string{"DRONE_RUNNER_LABELS: its pair no. 1 is not KEY:value"}},
		{"volume without target", minimal("DRONE_RUNNER_VOLUMES=/a"), []string{`DRONE_RUNNER_VOLUMES: "/a" is not a volume`}},
		{"volume with an odd mode", minimal("DRONE_RUNNER_VOLUMES=/a:/b:r0"), []string{`the mode "r0" is not known`}},
		{"volume with a relative source", minimal("DRONE_RUNNER_VOLUMES=../a:/b"), []string{`"../a" is neither an absolute path`}},
		{"volume over the root", minimal("DRONE_RUNNER_VOLUMES=/a:/"), []string{`"/" is not an absolute path in the step`}},
		{"volume in four parts", minimal("DRONE_RUNNER_VOLUMES=/a:/b:ro:z"), []string{"is not a volume"}},
		{"docker plugin with a tag", minimal("DRONE_RUNNER_DOCKER_PLUGINS=octo/build:1"), []string{`DRONE_RUNNER_DOCKER_PLUGINS: "octo/build:1" has a tag or a digest: write octo/build`}},
		{"docker plugin that is no image", minimal("DRONE_RUNNER_DOCKER_PLUGINS=octo/Build"), []string{`DRONE_RUNNER_DOCKER_PLUGINS: "octo/Build" is no image`}},
		{"host path relative", minimal("DRONE_RUNNER_HOST_PATHS=a"), []string{`DRONE_RUNNER_HOST_PATHS: "a" is not an absolute path`}},
		{"shared path is relative", minimal("DRONE_RUNNER_SHARED_PATHS=cache"), []string{`DRONE_RUNNER_SHARED_PATHS: "cache" is not an absolute path`}},
		{"host path is everything", minimal("DRONE_RUNNER_HOST_PATHS=/srv/.."), []string{"stands for the whole file system"}},
		{"privileged allowed", minimal("DRONE_RUNNER_PRIVILEGED=allow"), []string{`DRONE_RUNNER_PRIVILEGED: "allow" is not known`}},
		{"devices", minimal("DRONE_RUNNER_DEVICES=/dev/kvm:/dev/kvm"), []string{"DRONE_RUNNER_DEVICES is refused: no step gets a device"}},
		{"privileged images", minimal("DRONE_RUNNER_PRIVILEGED_IMAGES=a/b"), []string{"DRONE_RUNNER_PRIVILEGED_IMAGES is refused: nothing runs privileged here"}},
		{"HTTP that isn't served", minimal("DRONE_HTTP_PROTO=https", "DRONE_HTTP_ACME=true", "DRONE_HTTP_HOST=x"), []string{"DRONE_HTTP_PROTO: \"https\" is not served", "DRONE_HTTP_ACME is not served", "DRONE_HTTP_HOST: \"x\" has no effect"}},
		{"bind without a port", minimal("DRONE_HTTP_BIND=localhost"), []string{`DRONE_HTTP_BIND: "localhost" is not an address`}},
		{"bind to port 99999", minimal("DRONE_HTTP_BIND=:99999"), []string{`DRONE_HTTP_BIND: ":99999" is not an address`}},
		{"proto", minimal("DRONE_RPC_PROTO=grpc"), []string{`DRONE_RPC_PROTO: "grpc" is not known`}},
		{"host with another protocol", minimal("DRONE_RPC_HOST=https://x", "DRONE_RPC_PROTO=http"), []string{`"https://x" begins with https://, and DRONE_RPC_PROTO says http`}},
		{"host with spaces", minimal("DRONE_RPC_HOST=a b"), []string{`DRONE_RPC_HOST: "a b" is not a host`}},
		{"host with a bad port", minimal("DRONE_RPC_HOST=a:http"), []string{"is not a host"}},
		{"host with an empty port", minimal("DRONE_RPC_HOST=a:"), []string{"is not a host"}},
		{"host with port 0", minimal("DRONE_RPC_HOST=a:0"), []string{"is not a host"}},
		{"host that is only a port", minimal("DRONE_RPC_HOST=:8080"), []string{"is not a host"}},
		{"host with a query", minimal("DRONE_RPC_HOST=a?b=c"), []string{"is not a host"}},
		{"log limit", minimal("DRONE_RUNNER_LOG_LIMIT=much"), []string{`DRONE_RUNNER_LOG_LIMIT: "much" is not a number of bytes`}},
		{"negative report timeout", minimal("DRONE_RUNNER_REPORT_TIMEOUT=-1m"), []string{"DRONE_RUNNER_REPORT_TIMEOUT: \"-1m0s\" is negative"}},
		{"negative log limit", minimal("DRONE_RUNNER_LOG_LIMIT=-1"), []string{"DRONE_RUNNER_LOG_LIMIT: -1 is negative"}},
		{"state relative", minimal("DRONE_RUNNER_STATE=state"), []string{`DRONE_RUNNER_STATE: "state" is not an absolute path`}},
		{"windows", minimal("DRONE_PLATFORM_OS=windows"), []string{`DRONE_PLATFORM_OS: "windows": this runner runs linux containers`}},
		{"limits", minimal("DRONE_LIMIT_REPOS=a/[b"), []string{`DRONE_LIMIT_REPOS: "a/[b" is not a pattern`}},
		{"negative memory", minimal("DRONE_MEMORY_LIMIT=-1"), []string{"DRONE_MEMORY_LIMIT: -1 is less than 0"}},
		{"very negative swap", minimal("DRONE_MEMORY_SWAP_LIMIT=-2"), []string{"DRONE_MEMORY_SWAP_LIMIT: \"-2\" is not a number of bytes"}},
		{"negative shares", minimal("DRONE_CPU_SHARES=-4"), []string{"DRONE_CPU_SHARES: -4 is less than 0"}},
		{"CPU set", minimal("DRONE_CPU_SET=all"), []string{`DRONE_CPU_SET: "all" is not a list of CPUs`}},
		{"provider's endpoint", minimal("DRONE_SECRET_PLUGIN_ENDPOINT=vault:3000"), []string{`DRONE_SECRET_PLUGIN_ENDPOINT: "vault:3000" is not a URL`}},
		{"sandbox", minimal("DRONE_RUNNER_SANDBOX=gvisor"), []string{`DRONE_RUNNER_SANDBOX: sandbox "gvisor" is not known: write sysbox (the default), userns or none`}},
		{"fallback", minimal("DRONE_RUNNER_PULL_FALLBACK=sometimes"), []string{`DRONE_RUNNER_PULL_FALLBACK: "sometimes" is not known`}},
		{"no image", minimal("DRONE_RUNNER_PRELOAD_IMAGES=golang:1,Team/X"), []string{`DRONE_RUNNER_PRELOAD_IMAGES: "Team/X" is not the name of an image`}},
		{"mark", minimal("DRONE_RUNNER_CACHE_HIGH=full"), []string{`DRONE_RUNNER_CACHE_HIGH: "full" is neither a part of a disk nor a number of bytes`}},
		{"mark over the top", minimal("DRONE_RUNNER_CACHE_LOW=100%"), []string{`DRONE_RUNNER_CACHE_LOW: "100%" is not a part of a disk`}},
		{"negative mark", minimal("DRONE_RUNNER_CACHE_HIGH=-1"), []string{`DRONE_RUNNER_CACHE_HIGH: "-1" is neither`}},
		{"low mark above the high one", minimal("DRONE_RUNNER_CACHE_HIGH=50%"), []string{`DRONE_RUNNER_CACHE_LOW: 60% is above DRONE_RUNNER_CACHE_HIGH, 50%`}},
		{"mirror without a protocol", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=mirror.example.com"), []string{`DRONE_RUNNER_REGISTRY_MIRRORS: "mirror.example.com" is not the URL of a mirror`}},
		{"mirror with another protocol", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=https://a,ftp://b"), []string{`"ftp://b" is not the URL`}},
		{"mirror without a host", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=https://:5000"), []string{`"https://:5000" is not the URL`}},
		{"mirror with a path", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=https://a/v2"), []string{"is not the URL"}},
		{"mirror with a query", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=https://a?b=c"), []string{"is not the URL"}},
		{"mirror with a bad port", minimal("DRONE_RUNNER_REGISTRY_MIRRORS=https://a:70000"), []string{"is not the URL"}},
		{"insecure registry as a URL", minimal("DRONE_RUNNER_INSECURE_REGISTRIES=http://a:5000"), []string{`DRONE_RUNNER_INSECURE_REGISTRIES: "http://a:5000" is neither a host nor a network`}},
		{"insecure network too long", minimal("DRONE_RUNNER_INSECURE_REGISTRIES=10.0.0.0/33"), []string{`"10.0.0.0/33" is neither`}},
		{"insecure registry with a bad port", minimal("DRONE_RUNNER_INSECURE_REGISTRIES=a:0,b:,a_b,a:x"), []string{`"a:0" is neither`, `"b:" is neither`, `"a_b" is neither`, `"a:x" is neither`}},
		{"insecure registry is IPv6 without brackets", minimal("DRONE_RUNNER_INSECURE_REGISTRIES=::1,[::1"), []string{`"::1" is neither`, `"[::1" is neither`}},
		{"two faults in one section", minimal("DRONE_RUNNER_CAPACITY=x", "DRONE_RUNNER_MAX_PROCS=y", "DRONE_RUNNER_LOG_LIMIT=z", "DRONE_MEMORY_LIMIT=w"),
			[]string{`DRONE_RUNNER_CAPACITY: "x"`, `DRONE_RUNNER_MAX_PROCS: "y"`, `DRONE_RUNNER_LOG_LIMIT: "z"`, `DRONE_MEMORY_LIMIT: "w"`}},
		{"a NUL byte", minimal("DRONE_RPC_SECRET=hush\x00", "DRONE_RUNNER_NAME=\x00"), []string{"DRONE_RPC_SECRET holds a NUL byte", "DRONE_RUNNER_NAME holds a NUL byte"}},
		{"required among spaces", []string{"DRONE_RPC_SECRET=s", "DRONE_RPC_HOST= "}, []string{"DRONE_RPC_HOST is required"}},
		{"no such environment file", minimal("DRONE_RUNNER_ENV_FILE=/nowhere/env"), []string{"DRONE_RUNNER_ENV_FILE: read the environment file: open /nowhere/env"}},
		{"a letter too many", minimal("DRONE_RUNNER_CAPACITYS=1"), []string{"DRONE_RUNNER_CAPACITYS is unknown (did you mean DRONE_RUNNER_CAPACITY?): correct or remove it"}},
		{"a letter too few", minimal("DRONE_LIMIT_TRUSTD=true"), []string{"DRONE_LIMIT_TRUSTD is unknown (did you mean DRONE_LIMIT_TRUSTED?)"}},
		{"another letter", minimal("DRONE_LIMIT_REPAS=a/b"), []string{"did you mean DRONE_LIMIT_REPOS?"}},
		{"two letters swapped", minimal("DRONE_RUNNER_CAPACTIY=1"), []string{"did you mean DRONE_RUNNER_CAPACITY?"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _, err := Load(tt.environ)
			if err == nil {
				t.Fatalf("Load succeeded: %+v", cfg)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("%d lines, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				if i < len(lines) && !strings.Contains(lines[i], want) {
					t.Errorf("line %d is\n%s\nwithout\n%s", i+1, lines[i], want)
				}
			}
		})
	}
}

func TestErrorsKeepCredentials(t *testing.T) {
	_, _, err := Load(minimal("DRONE_RPC_HOST=me:hunter3@drone.example.com", "DRONE_RUNNER_SECRETS=hunter4", "DRONE_RUNNER_REGISTRY_MIRRORS=https://me:hunter5@mirror",
		"DRONE_ENV_PLUGIN_ENDPOINT=me:hunter6@env"))
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("the error is: %v", err)
	}
}

func TestSecretsPrintRedacted(t *testing.T) {
	cfg, _ := load(t, minimal("DRONE_UI_PASSWORD=hunter3", "DRONE_RUNNER_SECRETS=token:hunter4", "DRONE_SECRET_PLUGIN_TOKEN=hunter5")...)
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{"JSON": string(text), "an error": errors.Join(fmt.Errorf("%w %v", os.ErrExist, cfg.RPC)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		outputs[verb] = fmt.Sprintf(verb, *cfg)
	}
	for name, out := range outputs {
		if strings.Contains(out, "hunter") || strings.Contains(out, fmt.Sprintf("%x", "hunter")) {
			t.Errorf("%s shows a secret: %s", name, out)
		}
		if name != "an error" && !strings.Contains(out, redacted) {
			t.Errorf("%s doesn't show that there are secrets: %s", name, out)
		}
	}
	if string(cfg.Runner.Secrets["token"]) != "hunter4" {
		t.Error("the secret can't be read")
	}
}

// write makes a file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFile(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	if err := os.Unsetenv("DOCKER_HOST"); err != nil {
		t.Fatal(err)
	}
	path := write(t, "# the runner's\nDRONE_RPC_HOST=file.example.com\nexport DRONE_RPC_SECRET=\"a b\"\n\nDRONE_RUNNER_NAME=from-file\nDOCKER_HOST=tcp://127.0.0.1:1\nPATH=/nowhere\n")
	cfg, _, err := LoadFile(path, []string{"PATH=/bin", "DRONE_RUNNER_NAME=from-environment"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.RPC.Host != "file.example.com" || cfg.RPC.Secret != "a b" || cfg.Runner.Name != "from-environment" {
		t.Errorf("%+v", cfg)
	}
	if got := os.Getenv("DOCKER_HOST"); got != "tcp://127.0.0.1:1" {
		t.Errorf("DOCKER_HOST is %q", got)
	}
	if os.Getenv("PATH") == "/nowhere" {
		t.Error("a variable that was set has been replaced")
	}
}

func TestLoadFileErrors(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"absent", "/nowhere/env", "read the environment file: open /nowhere/env: no such file or directory"},
		{"a folder", t.TempDir(), "is a directory"},
		{"not KEY=value", write(t, "DRONE_RPC_HOST=x\n\nhunter2\nDRONE_DEBUG=true\n"), "env:3: this is not KEY=value"},
		{"an open quote", write(t, "A=1\nB=\"hunter2\nC=3\n"), "env:2: this is not KEY=value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := LoadFile(tt.path, minimal())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("the error is: %v", err)
			}
		})
	}
}

func TestEnvFile(t *testing.T) {
	cfg, _ := load(t, minimal("DRONE_RUNNER_ENVIRON=A:1,B:2", "DRONE_RUNNER_ENV_FILE="+write(t, "B=3\nC=\"4 5\"\n"))...)
	if diff := cmp.Diff(Pairs[string]{"A": "1", "B": "3", "C": "4 5"}, cfg.Runner.Environ); diff != "" {
		t.Error(diff)
	}
}

// A default that can't be parsed would be an error at every start.
func TestEveryDefaultIsValid(t *testing.T) {
	want, _ := load(t, minimal()...)
	for v := range variables(reflect.TypeFor[Config]()) {
		if v.fallback == "" {
			continue
		}
		cfg, _, err := Load(minimal(v.name + "=" + v.fallback))
		if err != nil {
			t.Errorf("%s: the default: %v", v.name, err)
			continue
		}
		if diff := cmp.Diff(want, cfg, prefixes); diff != "" {
			t.Errorf("%s: its default written out is something else: %s", v.name, diff)
		}
	}
}

// decode hands a required variable that is missing to envconfig as an empty one, which not every
// type takes.
func TestRequiredVariablesAreTexts(t *testing.T) {
	for v := range variables(reflect.TypeFor[Config]()) {
		if v.required && (v.field.Type.Kind() != reflect.String || v.fallback != "") {
			t.Errorf("%s is required, a %s and has the default %q", v.name, v.field.Type, v.fallback)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, v := range []string{"2", "a:b,c", "/a:/b:ro", "1h", "5MB", "https://x/", "tcp://1", "[", "\x00", "-1", "a:b:c:d", ":3000"} {
		f.Add("RPC_HOST", v)
		f.Add("RUNNER_VOLUMES", v)
	}
	all := sortedNames(known())
	f.Fuzz(func(t *testing.T, name, value string) {
		environ := minimal("DRONE_" + name + "=" + value)
		for _, known := range all {
			if strings.HasSuffix(known, "_FILE") || strings.HasPrefix(known, "DRONE_RPC") {
				continue
			}
			environ = append(environ, known+"="+value)
		}
		cfg, _, err := Load(environ)
		if (cfg == nil) == (err == nil) {
			t.Errorf("config %v, error %v", cfg, err)
		}
	})
}

// The images of a daemon that isn't the runner's own are nobody's to remove, unless the operator
// says so.
func TestBudgetOfAnotherDaemon(t *testing.T) {
	cfg, _ := load(t, minimal("DRONE_RUNNER_SANDBOX=none")...)
	if cfg.Cache.High != (Mark{}) || cfg.Cache.Low != (Mark{}) {
		t.Errorf("the marks are %s and %s", cfg.Cache.High, cfg.Cache.Low)
	}
	cfg, _ = load(t, minimal("DRONE_RUNNER_SANDBOX=none", "DRONE_RUNNER_CACHE_HIGH=70%")...)
	if cfg.Cache.High.Percent != 70 {
		t.Errorf("the high mark is %s", cfg.Cache.High)
	}
}

func TestKeeps(t *testing.T) {
	cfg, _ := load(t, minimal("DRONE_RUNNER_CACHE_KEEP=golang:*,node,registry.example.com/team/*,/cache/*,alpine@*", "DRONE_RUNNER_PRELOAD_IMAGES=python,registry.example.com/x:2")...)
	for name, want := range map[string]bool{
		"golang:1.26": true, "docker.io/library/golang:1.26": true, "node:24": true, "nodes:24": false, "registry.example.com/team/tools:1": true,
		"registry.example.com/team/tools@sha256:" + strings.Repeat("a", 64): true, "registry.example.com/team/deep/tools:1": false, "registry.example.com/golang:1": false,
		"alpine@sha256:" + strings.Repeat("a", 64): true, "alpine:3": false,
		"python:latest": true, "python:3": false, "registry.example.com/x:2": true, "/cache/npm": true, "/cache/npm/x": false, "/golang:1": false, "": false,
	} {
		if got := cfg.Cache.Keeps(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
