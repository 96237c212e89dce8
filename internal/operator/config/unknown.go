package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// needless are variables of Drone's docker runner that have no effect here, and why none is needed.
func needless() map[string]string {
	return map[string]string{
		"DRONE_DEFER_TAIL_LOG": "the end of a log is always waited for",
		"DRONE_FLAG_ALLOW_DOCKER_PLUGIN_VOLUMES": "plugins that build images may mount volumes, and get Docker " +
			"all the same",
		"DRONE_RUNNER_NETWORK_ENABLE_IPV6": "the networks of pipelines have IPv4 alone",
	}
}

// refused are variables of Drone's docker runner that can't be honoured here, and why.
func refused() map[string]string {
	return map[string]string{
		"DRONE_RUNNER_DEVICES": "no step gets a device of the machine here: remove it, and run the pipelines that " +
			"need one on another runner",
		"DRONE_RUNNER_PRIVILEGED_IMAGES": "nothing runs privileged here: remove it. Steps that only want Docker " +
			"mount /var/run/docker.sock, and plugins/docker and its kin " +
			"work as they are; other plugins that build images go into DRONE_RUNNER_DOCKER_PLUGINS",
	}
}

// serverPrefixes begin the names of the Drone server's variables
// (https://docs.drone.io/server/reference/), which operators keep in one file with the runner's.
// Names that the runner knows are never looked up here.
func serverPrefixes() []string {
	return []string{
		"ADMISSION_PLUGIN_", "AGENTS_", "AZURE_", "BITBUCKET_", "CLEANUP_", "CONVERT_", "COOKIE_", "CRON_",
		"DATABASE_", "DATADOG_", "GITEA_", "GITEE_", "GITHUB_",
		"GITLAB_", "GIT_", "GOGS_", "HTTP_ALLOWED_", "HTTP_BROWSER_", "HTTP_CONTENT_", "HTTP_FRAME_",
		"HTTP_PROXY_", "HTTP_REFERRER_", "HTTP_SSL_", "HTTP_STS_",
		"JSONNET_", "KUBERNETES_", "LICENSE", "LOGS_", "NOMAD_", "PROMETHEUS_", "REDIS_", "REGISTRATION_",
		"REPOSITORY_", "S3_", "SERVER_", "STARLARK_", "STASH_",
		"STATUS_", "TEMPLATE_", "TLS_", "TRIGGER_", "USER_", "VALIDATE_", "WEBHOOK_", "YAML_",
	}
}

// serverNames are those that no prefix covers.
func serverNames() []string {
	return []string{
		"ADMIN", "HOST", "HTTP_FORCE_STS_HEADER", "HTTP_STS_FORCE_HEADER", "LEGACY_TOKEN_MAPPING_FILE",
		"LIMIT_SHM_SIZE", "MIN_AGE", "OPEN", "ORGS", "PPROF_ENABLED",
		"PROVIDER", "RPC_DEBUG", "RPC_EXTRA_HOSTS", "RUNNER_IMAGE", "RUNNER_LOCAL", "RUNNER_PLATFORM", "SECRET",
	}
}

// buildPrefixes begin the names of the variables that a step of a build finds
// (https://docs.drone.io/pipeline/environment/reference/): a runner that is tried in one has them.
func buildPrefixes() []string {
	return []string{
		"BUILD_", "CALVER", "COMMIT", "DEPLOY_", "FAILED_", "NETRC_", "PULL_REQUEST", "REMOTE_", "REPO",
		"SEMVER", "STAGE_", "STEP_", "SYSTEM_", "WORKSPACE",
	}
}

func buildNames() []string {
	return []string{
		"BRANCH", "CARD_PATH", "DOCKER_NETWORK_ID", "DOCKER_VOLUME_ID", "ENV", "JOB_STATUS", "OUTPUT", "SCRIPT",
		"SOURCE_BRANCH", "TAG", "TARGET_BRANCH", "TRIGGER",
	}
}

// sortOut names the variables that mean nothing to the runner. Those of the server and of builds
// are ignored, and so is what nobody knows, since a file may serve programs of a later version. A
// name that is one letter away from one of the runner's is an error: what it should have set would
// be missed in silence.
func (l *loader) sortOut() {
	all, reasons, idle := known(), refused(), needless()
	var server, build []string
	for _, name := range sortedNames(l.env) {
		short, ours := strings.CutPrefix(name, prefix)
		if _, known := all[name]; !ours || known {
			continue
		}
		switch reason, no := reasons[name]; {
		case no:
			l.fail("%s is refused: %s", name, reason)
		case idle[name] != "":
			l.notice("%s has no effect here: %s", name, idle[name])
		case belongs(short, serverNames(), serverPrefixes()):
			server = append(server, name)
		case belongs(short, buildNames(), buildPrefixes()):
			build = append(build, name)
		default:
			l.unknown(name, short, all)
		}
	}
	if len(server) > 0 {
		l.notice("ignored, as they are the Drone server's: %s", strings.Join(server, ", "))
	}
	if len(build) > 0 {
		l.notice("ignored, as they are a build's: %s", strings.Join(build, ", "))
	}
}

func belongs(name string, whole, prefixes []string) bool {
	return slices.Contains(whole, name) || slices.ContainsFunc(prefixes,
		func(p string) bool { return strings.HasPrefix(name, p) })
}

// unknown reports a variable that is nobody's, with the known one that is nearest to it.
func (l *loader) unknown(name, short string, all map[string]variable) {
	best, distance := nearest(name, all)
	near := distance <= max(3, len(name)/4) || strings.HasPrefix(short, "RUNNER_")
	switch {
	case best != "" && (distance == 1 || swapped(name, best)):
		l.fail("%s is unknown (did you mean %s?): correct or remove it; docs/configuration.md lists them all",
			name, best)
	case best != "" && near:
		l.notice("%s is unknown and ignored (did you mean %s?); docs/configuration.md lists what the runner knows", name, best)
	default:
		l.notice("%s is unknown and ignored; docs/configuration.md lists what the runner knows", name)
	}
}

// nearest returns the known variable whose name differs in the fewest letters, and their number.
func nearest(name string, known map[string]variable) (best string, distance int) {
	const longest = 64 // of what may be a typing error; comparing takes time
	if len(name) > longest {
		return "", 0
	}
	for _, candidate := range sortedNames(known) {
		if d := levenshtein.Distance(name, candidate, nil); best == "" || d < distance {
			best, distance = candidate, d
		}
	}
	return best, distance
}

// swapped reports whether two names differ by two letters next to each other that have changed
// places.
func swapped(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// kubernetesName matches the variables that Kubernetes, and the links of old Docker, set for a
// service whose name begins with drone-.
var kubernetesName = regexp.MustCompile(`^DRONE_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP|SCTP))(_[A-Z0-9_]+)?$`)

// dropKubernetes removes those, since nobody wrote them: a service called drone-server sets
// DRONE_SERVER_PORT to tcp://10.0.0.7:80.
func (l *loader) dropKubernetes() {
	for name, value := range l.env {
		if kubernetesName.MatchString(name) || strings.HasPrefix(name, prefix) && strings.HasSuffix(name,
			"_PORT") && strings.Contains(value, "://") {
			delete(l.env, name)
		}
	}
}
