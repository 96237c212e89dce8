package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAliases(t *testing.T) {
	tests := []struct {
		old, value string
		want       any
		get        func(*Config) any
	}{
		{"DRONE_MACHINE", "m", "m", func(c *Config) any { return c.Runner.Name }},
		{"DRONE_RUNNER_OS", "linux", "linux", func(c *Config) any { return c.Platform.OS }},
		{"DRONE_RUNNER_ARCH", "arm", "arm", func(c *Config) any { return c.Platform.Arch }},
		{"DRONE_RUNNER_KERNEL", "5", "5", func(c *Config) any { return c.Platform.Kernel }},
		{"DRONE_RUNNER_VARIANT", "v7", "v7", func(c *Config) any { return c.Platform.Variant }},
		{"DRONE_REGISTRY_ENDPOINT", "http://r", "http://r", func(c *Config) any { return c.Plugins.Registry.Endpoint }},
		{"DRONE_REGISTRY_SECRET", "s", Secret("s"), func(c *Config) any { return c.Plugins.Registry.Token }},
		{"DRONE_REGISTRY_PLUGIN_SECRET", "s", Secret("s"), func(c *Config) any { return c.Plugins.Registry.Token }},
		{"DRONE_REGISTRY_SKIP_VERIFY", "true", true, func(c *Config) any { return c.Plugins.Registry.SkipVerify }},
		{"DRONE_SECRET_ENDPOINT", "http://s", "http://s", func(c *Config) any { return c.Plugins.Secret.Endpoint }},
		{"DRONE_SECRET_SECRET", "s", Secret("s"), func(c *Config) any { return c.Plugins.Secret.Token }},
		{"DRONE_SECRET_SKIP_VERIFY", "true", true, func(c *Config) any { return c.Plugins.Secret.SkipVerify }},
		{"DRONE_LIMIT_MEM_SWAP", "1", Bytes(1), func(c *Config) any { return c.Resources.MemorySwap }},
		{"DRONE_LIMIT_MEM", "2", Bytes(2), func(c *Config) any { return c.Resources.Memory }},
		{"DRONE_LIMIT_CPU_QUOTA", "3", int64(3), func(c *Config) any { return c.Resources.CPUQuota }},
		{"DRONE_LIMIT_CPU_SHARES", "4", int64(4), func(c *Config) any { return c.Resources.CPUShares }},
		{"DRONE_LIMIT_CPU_SET", "5", "5", func(c *Config) any { return c.Resources.CPUSet }},
		{"DRONE_LOGS_DEBUG", "true", true, func(c *Config) any { return c.Log.Debug }},
		{"DRONE_LOGS_TRACE", "true", true, func(c *Config) any { return c.Log.Trace }},
		{"DRONE_SERVER_PORT", ":80", ":80", func(c *Config) any { return c.HTTP.Bind }},
	}
	for _, tt := range tests {
		t.Run(tt.old, func(t *testing.T) {
			cfg, notices := load(t, minimal(tt.old+"="+tt.value)...)
			if diff := cmp.Diff(tt.want, tt.get(cfg)); diff != "" {
				t.Error(diff)
			}
			if len(notices) != 1 || !strings.HasPrefix(notices[0], tt.old+" is an old name of ") {
				t.Errorf("notices: %q", notices)
			}
		})
	}
}

// Every alias points at a variable that there is.
func TestAliasesAreKnown(t *testing.T) {
	all := known()
	for _, a := range aliases() {
		if all[a.now].name == "" || all[a.old].name != "" {
			t.Errorf("%s → %s", a.old, a.now)
		}
	}
}

func TestServerAddress(t *testing.T) {
	const secret = "DRONE_RPC_SECRET=s"
	tests := []struct {
		name    string
		environ []string
		address string
		notices []string
	}{
		{"the form of 2019", []string{secret, "DRONE_SERVER_HOST=drone:8080"}, "http://drone:8080",
			[]string{"DRONE_RPC_HOST is not set: the runner polls DRONE_SERVER_HOST, drone:8080"}},
		{"the form of 2019, with its protocol", []string{secret, "DRONE_SERVER_HOST=drone", "DRONE_SERVER_PROTO=https"}, "https://drone",
			[]string{"the runner polls DRONE_SERVER_HOST, drone", "DRONE_SERVER_PROTO, https, is used"}},
		{"the form of 2019, as a URL", []string{secret, "DRONE_SERVER_HOST=https://drone/"}, "https://drone",
			[]string{"the runner polls DRONE_SERVER_HOST", "is taken as DRONE_RPC_PROTO=https and DRONE_RPC_HOST=drone"}},
		{"the form of 2019, the protocol given", []string{secret, "DRONE_SERVER_HOST=drone", "DRONE_SERVER_PROTO=https", "DRONE_RPC_PROTO=http"}, "http://drone",
			[]string{"the runner polls DRONE_SERVER_HOST, drone", "DRONE_SERVER_PROTO is ignored"}},
		{"a URL of the first agents", []string{secret, "DRONE_RPC_SERVER=https://drone.example.com"}, "https://drone.example.com",
			[]string{"DRONE_RPC_SERVER is an old name of DRONE_RPC_HOST", "is taken as DRONE_RPC_PROTO=https"}},
		{"a file shared with the server", []string{secret, "DRONE_RPC_HOST=inside", "DRONE_SERVER_HOST=outside", "DRONE_SERVER_PROTO=https", "DRONE_GITEA_SERVER=http://gitea", "DRONE_USER_CREATE=username:a", "DRONE_DATABASE_DRIVER=postgres"}, "http://inside",
			[]string{"DRONE_SERVER_HOST is ignored", "DRONE_SERVER_PROTO is ignored", "ignored, as they are the Drone server's: DRONE_DATABASE_DRIVER, DRONE_GITEA_SERVER, DRONE_USER_CREATE"}},
		{"a host with a scheme", []string{secret, "DRONE_RPC_HOST=HTTPS://drone/"}, "https://drone", []string{"DRONE_RPC_HOST holds a protocol"}},
		{"a host with the same scheme as the protocol", []string{secret, "DRONE_RPC_HOST=https://drone", "DRONE_RPC_PROTO=https"}, "https://drone", []string{"DRONE_RPC_HOST holds a protocol"}},
		{"a host with a slash", []string{secret, "DRONE_RPC_HOST=drone/"}, "http://drone", nil},
		{"a host with a prefix", []string{secret, "DRONE_RPC_HOST=drone/ci"}, "http://drone/ci", nil},
		{"IPv6", []string{secret, "DRONE_RPC_HOST=[::1]:8080"}, "http://[::1]:8080", nil},
		{"Kubernetes and its links", []string{secret, "DRONE_RPC_HOST=drone", "DRONE_SERVER_PORT=tcp://10.0.0.7:80", "DRONE_SERVER_PORT_80_TCP_ADDR=10.0.0.7", "DRONE_SERVER_SERVICE_HOST=10.0.0.7", "DRONE_SERVER_SERVICE_PORT_HTTP=80", "DRONE_SERVICE_HOST=10.0.0.8", "DRONE_PORT=tcp://10.0.0.8:80", "DRONE_RUNNER_PORT=tcp://10.0.0.9:3000"}, "http://drone", nil},
		{"within a build", []string{secret, "DRONE_RPC_HOST=drone", "DRONE=true", "DRONE_COMMIT=abc", "DRONE_BUILD_NUMBER=1", "DRONE_WORKSPACE=/drone/src"}, "http://drone",
			[]string{"ignored, as they are a build's: DRONE_BUILD_NUMBER, DRONE_COMMIT, DRONE_WORKSPACE"}},
		{"what others read", []string{secret, "DRONE_RPC_HOST=drone", "DRONE_FLAG_ALLOW_DOCKER_PLUGIN_VOLUMES=true", "DRONE_DEFER_TAIL_LOG=true", "DRONE_RUNNER_NETWORK_ENABLE_IPV6=true", "DRONE_LIMIT_SHM_SIZE=1", "DRONE_RPC_EXTRA_HOSTS=a:b"}, "http://drone",
			[]string{"DRONE_DEFER_TAIL_LOG has no effect here: the end of a log", "DRONE_FLAG_ALLOW_DOCKER_PLUGIN_VOLUMES has no effect here: plugins", "DRONE_RUNNER_NETWORK_ENABLE_IPV6 has no effect here",
				"ignored, as they are the Drone server's: DRONE_LIMIT_SHM_SIZE, DRONE_RPC_EXTRA_HOSTS"}},
		{"what nobody knows", []string{secret, "DRONE_RPC_HOST=drone", "DRONE_WHATEVER_IT_TAKES=1", "DRONE_RUNNER_FROBNICATE=1", "DRONE_DEBUGGED=1", "DRONE_RUNNER_" + strings.Repeat("X", 100) + "=1"}, "http://drone",
			[]string{"DRONE_DEBUGGED is unknown and ignored (did you mean DRONE_DEBUG?)", "DRONE_RUNNER_FROBNICATE is unknown and ignored (did you mean DRONE_RUNNER_", "XXX is unknown and ignored; docs/configuration.md",
				"DRONE_WHATEVER_IT_TAKES is unknown and ignored; docs/configuration.md"}},
		{"an old name and the new one", []string{secret, "DRONE_RPC_HOST=drone", "DRONE_MACHINE=a", "DRONE_RUNNER_NAME=b"}, "http://drone",
			[]string{"DRONE_MACHINE is ignored: it is an old name of DRONE_RUNNER_NAME, which is set as well"}},
		{"what isn't served yet", []string{secret, "DRONE_RPC_HOST=drone", "DRONE_UI_PASSWORD=p", "DRONE_TMATE_ENABLED=true"}, "http://drone",
			[]string{"this version has no dashboard", "this version opens no debug sessions"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, notices := load(t, tt.environ...)
			if got := cfg.RPC.Address(); got != tt.address {
				t.Errorf("address %q, want %q", got, tt.address)
			}
			if len(notices) != len(tt.notices) {
				t.Errorf("%d notices, want %d: %q", len(notices), len(tt.notices), notices)
			}
			for i, want := range tt.notices {
				if i < len(notices) && !strings.Contains(notices[i], want) {
					t.Errorf("notice %d is %q, without %q", i+1, notices[i], want)
				}
			}
			if cfg.HTTP.Bind != ":3000" {
				t.Errorf("bind %q", cfg.HTTP.Bind)
			}
		})
	}
}

// serverVariables are those that drone-server 2 reads (https://docs.drone.io/server/reference/),
// without DRONE_ and but for those that mean something to runners as well.
const serverVariables = `ADMISSION_PLUGIN_ENDPOINT ADMISSION_PLUGIN_SECRET ADMISSION_PLUGIN_SKIP_VERIFY AGENTS_DISABLED AZURE_BLOB_CONTAINER_NAME
AZURE_STORAGE_ACCESS_KEY AZURE_STORAGE_ACCOUNT_NAME BITBUCKET_CLIENT_ID BITBUCKET_CLIENT_SECRET BITBUCKET_DEBUG BITBUCKET_SKIP_VERIFY
CLEANUP_DEADLINE_PENDING CLEANUP_DEADLINE_RUNNING CLEANUP_DISABLED CLEANUP_INTERVAL CONVERT_PLUGIN_ENDPOINT CONVERT_PLUGIN_EXTENSION CONVERT_PLUGIN_SECRET
CONVERT_PLUGIN_SKIP_VERIFY CONVERT_TIMEOUT COOKIE_SECRET COOKIE_SECURE COOKIE_TIMEOUT CRON_DISABLED CRON_INTERVAL DATABASE_DATASOURCE DATABASE_DRIVER
DATABASE_LEGACY_BATCH DATABASE_MAX_CONNECTIONS DATABASE_SECRET DATADOG_ENABLED DATADOG_ENDPOINT DATADOG_TOKEN GITEA_CLIENT_ID GITEA_CLIENT_SECRET GITEA_DEBUG
GITEA_REDIRECT_URL GITEA_SCOPE GITEA_SERVER GITEA_SKIP_VERIFY GITEE_CLIENT_ID GITEE_SERVER GITHUB_API_SERVER GITHUB_CLIENT_ID GITHUB_CLIENT_SECRET GITHUB_DEBUG
GITHUB_SCOPE GITHUB_SERVER GITHUB_SKIP_VERIFY GITHUB_USER_RATELIMIT GITLAB_CLIENT_ID GITLAB_CLIENT_SECRET GITLAB_DEBUG GITLAB_SERVER GITLAB_SKIP_VERIFY
GIT_ALWAYS_AUTH GIT_IMAGE GIT_IMAGE_PULL GIT_PASSWORD GIT_USERNAME GOGS_DEBUG GOGS_SERVER GOGS_SKIP_VERIFY HTTP_ALLOWED_HOSTS HTTP_BROWSER_XSS_FILTER
HTTP_CONTENT_SECURITY_POLICY HTTP_CONTENT_TYPE_NO_SNIFF HTTP_FRAME_DENY HTTP_PROXY_HEADERS HTTP_REFERRER_POLICY HTTP_SSL_HOST HTTP_SSL_PROXY_HEADERS
HTTP_SSL_REDIRECT HTTP_SSL_TEMPORARY_REDIRECT HTTP_STS_FORCE_HEADER HTTP_STS_INCLUDE_SUBDOMAINS HTTP_STS_PRELOAD HTTP_STS_SECONDS JSONNET_ENABLED
JSONNET_IMPORT_LIMIT KUBERNETES_ENABLED KUBERNETES_NAMESPACE LEGACY_TOKEN_MAPPING_FILE LICENSE LICENSE_ENDPOINT LIMIT_SHM_SIZE LOGS_COLOR LOGS_PRETTY LOGS_TEXT MIN_AGE
NOMAD_ENABLED NOMAD_JOB_PREFIX PPROF_ENABLED PROMETHEUS_ANONYMOUS_ACCESS REDIS_CONNECTION REDIS_ADDR REGISTRATION_CLOSED REPOSITORY_FILTER REPOSITORY_IGNORE
REPOSITORY_TRUSTED REPOSITORY_VISIBILITY RPC_DEBUG RPC_EXTRA_HOSTS RUNNER_IMAGE RUNNER_LOCAL RUNNER_PLATFORM S3_BUCKET S3_ENDPOINT S3_PATH_STYLE S3_PREFIX
SERVER_PROXY_HOST SERVER_PROXY_PROTO STARLARK_ENABLED STARLARK_STEP_LIMIT STARLARK_SIZE_LIMIT STASH_CONSUMER_KEY STASH_CONSUMER_SECRET STASH_DEBUG STASH_PRIVATE_KEY STASH_SERVER
STASH_SKIP_VERIFY STATUS_DISABLED STATUS_NAME TEMPLATE_LIMIT TLS_AUTOCERT TLS_CERT TLS_EMAIL TLS_KEY TRIGGER_ALLOW USER_CREATE USER_FILTER
VALIDATE_PLUGIN_ENDPOINT VALIDATE_PLUGIN_SECRET VALIDATE_PLUGIN_SKIP_VERIFY VALIDATE_TIMEOUT WEBHOOK_ENDPOINT WEBHOOK_EVENTS WEBHOOK_SECRET WEBHOOK_SKIP_VERIFY
YAML_ENDPOINT YAML_SECRET YAML_SKIP_VERIFY YAML_TIMEOUT`

// TestServerVariables holds that one file can serve a server and its runners.
func TestServerVariables(t *testing.T) {
	environ := minimal()
	names := strings.Fields(serverVariables)
	for _, name := range names {
		environ = append(environ, "DRONE_"+name+"=x")
	}
	_, notices := load(t, environ...)
	if len(notices) != 1 || strings.Count(notices[0], "DRONE_") != len(names) {
		t.Errorf("%d variables, and the notices %q", len(names), notices)
	}
}
