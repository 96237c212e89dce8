package linter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// row is one rule: a pipeline, what it breaks, and where.
type row struct {
	name string
	yaml string
	opts Options
	want []want
}

// want is a finding; text is a part of its message.
type want struct {
	severity resource.Severity
	line     int
	step     string
	key      string
	text     string
}

const (
	failed = resource.Error
	warned = resource.Warning
)

var (
	trusted = Options{Trusted: true}
	plugins = Options{DockerPlugins: []string{"plugins/docker"}}
)

// everything is absent.
func everything(*resource.Step, bool) bool { return true }

// steps is a pipeline whose steps begin in line 4.
func steps(s string) string { return "kind: pipeline\nname: p\nsteps:\n" + strings.TrimPrefix(s, "\n") }

// keys is a pipeline of one step with the keys, one a line, from line 5.
func keys(s string) string {
	return steps("- {name: s, image: a, commands: [b],\n   " + strings.ReplaceAll(s, "\n", "\n   ") + "}\n")
}

// volumes is a pipeline with volumes from line 4, and a step without them.
func volumes(s string) string {
	return "kind: pipeline\nname: p\nvolumes:\n" + strings.TrimPrefix(s, "\n") + "steps: [{name: s, image: a}]\n"
}

// mounted is the same, with a step that mounts the volume a.
func mounted(s string) string {
	return "kind: pipeline\nname: p\nvolumes:\n" + s + "steps: [{name: s, image: a, volumes: [{name: a, path: /a}]}]\n"
}

func TestLint(t *testing.T) {
	for _, tt := range []row{
		// Nothing wrong.
		{"a pipeline of nothing special", steps("- {name: a, image: b, commands: [c], depends_on: [clone]}\n- {name: d, image: e, depends_on: [a]}\n"), Options{}, nil},
		{"a step with commands and settings, and one with neither", steps("- {name: a, image: b, commands: [c], settings: {d: e}}\n- {name: f, image: g}\n"), Options{}, nil},

		// The pipeline.
		{"no steps", "kind: pipeline\nname: p\n", Options{}, []want{{warned, 1, "", "steps", "write at least one"}}},
		{"an empty list of steps", "kind: pipeline\nname: p\nsteps: []\n", Options{}, []want{{warned, 3, "", "steps", "write at least one"}}},
		{"windows", steps("- {name: a, image: b}\n") + "platform: {os: windows}\n", Options{}, []want{{warned, 5, "", "platform.os", "for a runner of windows"}}},
		{"negative depth", steps("- {name: a, image: b}\n") + "clone: {depth: -1}\n", Options{}, []want{{warned, 5, "", "clone.depth", "-1 is negative"}}},
		{"negative retries", steps("- {name: a, image: b}\n") + "clone: {retries: -1}\n", Options{}, []want{{warned, 5, "", "clone.retries", "-1 is negative"}}},
		{"negative concurrency", steps("- {name: a, image: b}\n") + "concurrency: {limit: -2}\n", Options{}, []want{{warned, 5, "", "concurrency.limit", "-2 is negative"}}},
		{"relative workspace", steps("- {name: a, image: b}\n") + "workspace: {base: drone}\n", Options{}, []want{{warned, 5, "", "workspace.base", "is read as /drone"}}},
		{"workspace at the root", steps("- {name: a, image: b}\n") + "workspace: {base: /drone/..}\n", Options{}, []want{{failed, 5, "", "workspace.base", "can't be mounted at /:"}}},
		{"workspace in the runner's folder", steps("- {name: a, image: b}\n") + "workspace: {base: /run/drone/x}\n", Options{}, []want{{failed, 5, "", "workspace.base", "can't be mounted at /run/drone/x"}}},
		{"workspace path at the root", steps("- {name: a, image: b}\n") + "workspace: {path: /}\n", Options{}, []want{{failed, 5, "", "workspace.path", "can't be mounted at /"}}},
		{"workspace path out of its base", steps("- {name: a, image: b}\n") + "workspace: {base: /a, path: b/../../c}\n", Options{}, []want{{warned, 5, "", "workspace.path", "leads out of the workspace, and is read as /c"}}},
		{"absolute workspace path", steps("- {name: a, image: b}\n") + "workspace: {path: /go/src/x}\n", Options{}, nil},
		{"malformed trigger", steps("- {name: a, image: b}\n") + "trigger: {branch: \"[a\"}\n", Options{}, []want{{warned, 5, "", "trigger.branch", `"[a" is malformed`}}},
		{"unknown event", steps("- {name: a, image: b}\n") + "trigger: {event: [push, pull-request]}\n", Options{}, []want{{warned, 5, "", "trigger.event", `"pull-request" never occurs: write one of cron, custom`}}},
		{"pattern of events", steps("- {name: a, image: b}\n") + "trigger: {event: \"pu*\"}\n", Options{}, nil},
		{"variable with an equals sign", steps("- {name: a, image: b}\n") + "environment: {A=b: c}\n", Options{}, []want{{warned, 5, "", "environment.A=b", "this one is A: b=…"}}},

		{"services alone", "kind: pipeline\nname: p\nservices: [{name: db, image: a}]\n", Options{}, []want{{warned, 1, "", "steps", "services alone, and succeeds at once"}}},
		{"relative workspace at the root", steps("- {name: a, image: b}\n") + "workspace: {base: ..}\n", Options{}, []want{{failed, 5, "", "workspace.base", "can't be mounted at /:"}}},
		{"secret under a name with an equals sign", steps("- {name: a, image: b}\n") + "environment: {A=b: {from_secret: c}}\n", Options{}, []want{{failed, 5, "", "environment.A=b", "no name of a variable"}}},
		{"variable that begins with an equals sign", steps("- {name: a, image: b}\n") + "environment: {\"=b\": c}\n", Options{}, []want{{failed, 5, "", "environment.=b", "no name of a variable"}}},

		// Names.
		{"empty step", steps("-\n- {name: a, image: b}\n"), Options{}, []want{{failed, 4, "steps[0]", "steps[0]", "remove the dash"}}},
		{"empty service", steps("- {name: a, image: b}\n") + "services: [~]\n", Options{}, []want{{failed, 5, "services[0]", "services[0]", "remove the dash"}}},
		{"no name", steps("- {image: b}\n"), Options{}, []want{{failed, 4, "steps[0]", "name", "write name: NAME"}}},
		{"long name", steps("- {name: " + strings.Repeat("ä", 101) + ", image: b}\n"), Options{}, []want{{failed, 4, strings.Repeat("ä", 101), "name", "101 characters: write at most 100"}}},
		{"name of 100 characters", steps("- {name: " + strings.Repeat("ä", 100) + ", image: b}\n"), Options{}, nil},
		{"name twice", steps("- {name: a, image: b}\n- {name: a, image: b}\n"), Options{}, []want{{failed, 5, "a", "name", "stands in line 4 already"}}},
		{"name of a service", "kind: pipeline\nname: p\nservices: [{name: a, image: b}]\nsteps: [{name: a, image: b}]\n", Options{}, []want{{failed, 4, "a", "name", "stands in line 3 already"}}},
		{"clone", steps("- {name: clone, image: b}\n"), Options{}, []want{{failed, 4, "clone", "name", "clone: {disable: true}"}}},
		{"clone of one's own", "clone: {disable: true}\n" + steps("- {name: clone, image: b}\n- {name: a, image: b, depends_on: [clone]}\n"), Options{}, nil},

		// Values.
		{"no image", steps("- {name: a, commands: [b]}\n"), Options{}, []want{{failed, 4, "a", "image", "write image: NAME:TAG"}}},
		{"image in upper case", steps("- {name: a, image: Foo}\n"), Options{}, []want{{failed, 4, "a", "image", `"Foo" is no image`}}},
		{"image with a space", steps("- {name: a, image: \"a b\"}\n"), Options{}, []want{{failed, 4, "a", "image", "is no image"}}},
		{"image with all its parts", steps("- {name: a, image: \"r.io:5000/a/b:1.2@sha256:" + strings.Repeat("a", 64) + "\"}\n"), Options{}, nil},
		{"image of a step for failures alone", keys("image: Foo, when: {status: failure}"), Options{}, []want{{warned, 5, "s", "image", `"Foo" is no image`}}},
		{"image of a step for failures, by exclusion", keys("image: Foo, when: {status: {exclude: [success]}}"), Options{}, []want{{warned, 5, "s", "image", `"Foo" is no image`}}},
		{"image of a step for both", keys("image: Foo, when: {status: [success, failure]}"), Options{}, []want{{failed, 5, "s", "image", `"Foo" is no image`}}},
		{"shell that is none", keys("shell: pwsh"), Options{}, []want{{warned, 5, "s", "shell", `"pwsh" can't run the commands, and /bin/sh does: write sh, ash`}}},
		{"shell with options", keys("shell: sh -e"), Options{}, []want{{warned, 5, "s", "shell", `"sh -e"`}}},
		{"shells", steps("- {name: a, image: b, shell: bash, commands: [c]}\n- {name: d, image: b, shell: /opt/bin/zsh, commands: [c]}\n- {name: e, image: b, shell: pwsh}\n"), Options{}, nil},
		{"negative memory", keys("mem_limit: -1"), Options{}, []want{{warned, 5, "s", "mem_limit", "-1 is negative and has no effect"}}},
		{"negative swap", keys("memswap_limit: -2"), Options{}, []want{{warned, 5, "s", "memswap_limit", "-2 is negative"}}},
		{"unlimited swap", keys("memswap_limit: -1"), Options{}, nil},
		{"negative shm", keys("shm_size: -1"), trusted, []want{{warned, 5, "s", "shm_size", "-1 is negative"}}},
		{"less swap than memory", keys("mem_limit: 2g,\nmemswap_limit: 1g"), Options{}, []want{{failed, 6, "s", "memswap_limit", "write at least 2GiB"}}},
		{"malformed host", keys("extra_hosts: [a, \"b:1.2.3.4\", \"c=1.2.3.4\", \"d:::1\"]"), trusted, []want{{failed, 5, "s", "extra_hosts[0]", `write "NAME:ADDRESS"`}}},
		{"malformed resolver", keys("dns: [one.one, 1.1.1.1, \"2001:db8::1\"]"), trusted, []want{{failed, 5, "s", "dns[0]", "no IP address"}}},
		{"malformed when", keys("when: {ref: {include: \"{a,b\"}, branch: 'a\\'}"), Options{}, []want{
			{warned, 5, "s", "when.ref", "malformed"}, {warned, 5, "s", "when.branch", "malformed"}}},
		{"unknown status", keys("when: {status: [failure, changed]}"), Options{}, []want{{warned, 5, "s", "when.status", `"changed" never occurs: write one of success, failure`}}},
		{"variable of a step with an equals sign", keys("environment: {\"A=\": c}"), Options{}, []want{{warned, 5, "s", "environment.A=", "write A: '=…'"}}},

		// What nobody gets, and what only trusted repositories get.
		{"privileged, untrusted", keys("privileged: true"), Options{}, []want{{failed, 5, "s", "privileged", "mark the repository as trusted"}}},
		{"privileged, untrusted, the socket open", keys("privileged: true"), Options{OpenSocket: true}, []want{{failed, 5, "s", "privileged", "host: {path: /var/run/docker.sock}"}}},
		{"privileged, trusted", keys("privileged: true"), trusted, []want{{warned, 5, "s", "privileged", "this one runs unprivileged"}}},
		{"privileged, trusted, refused", keys("privileged: true"), Options{Trusted: true, RefusePrivileged: true}, []want{{failed, 5, "s", "privileged", "the operator wants such steps refused"}}},
		{"privileged service", steps("- {name: a, image: b}\n") + "services: [{name: db, image: db, privileged: true}]\n", trusted, []want{{warned, 5, "db", "privileged", "runs unprivileged"}}},
		{"docker daemon", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\", privileged: true}]\n", trusted, nil},
		{"docker daemon, untrusted", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\", privileged: true}]\n", Options{OpenSocket: true}, []want{{failed, 5, "docker", "privileged", "no step is privileged"}}},
		{"docker daemon, refused", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\", privileged: true}]\n", Options{Trusted: true, RefusePrivileged: true}, []want{{failed, 5, "docker", "privileged", "refused"}}},
		{"docker daemon without privilege, untrusted", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\"}]\n", Options{}, []want{{warned, 5, "docker", "image", "image: plugins/docker"}}},
		{"docker daemon without privilege, untrusted, the socket open", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\"}]\n", Options{OpenSocket: true}, nil},
		{"a docker daemon's volume of the machine", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\", volumes: [{name: v, path: /v}]}]\nvolumes: [{name: v, host: {path: /sys/fs/cgroup}}]\n", trusted, nil},
		{"a docker daemon's volume of the machine, and a step's", steps("- {name: a, image: b, volumes: [{name: v, path: /v}]}\n") + "services: [{name: docker, image: \"docker:dind\", volumes: [{name: v, path: /v}]}]\nvolumes: [{name: v, host: {path: /sys/fs/cgroup}}]\n", trusted, []want{{failed, 6, "", "volumes[0].host.path", "belongs to the machine"}}},
		{"a docker daemon's mounts", steps("- {name: a, image: b}\n") + "services: [{name: docker, image: \"docker:dind\", volumes: [{name: v, path: /sys/fs/cgroup}, {name: v, path: x}]}]\nvolumes: [{name: v, temp: {}}]\n", trusted, nil},
		{"the command line of the daemon's image", steps("- {name: a, image: \"docker:dind\", commands: [docker version]}\n"), Options{}, nil},
		{"devices", keys("devices: [{name: kvm, path: /dev/kvm}]"), Options{}, []want{{failed, 5, "s", "devices", "no step gets a device"}}},
		{"devices, trusted", keys("devices: [/dev/kvm]"), trusted, []want{{failed, 5, "s", "devices", "no step gets a device"}}},
		{"host network", keys("network_mode: Host"), trusted, []want{{failed, 5, "s", "network_mode", "no step shares the machine's network"}}},
		{"another container's network", keys("network_mode: container:x"), trusted, []want{{failed, 5, "s", "network_mode", "network of another container (container:…)"}}},
		{"another service's network", keys("network_mode: service:x"), trusted, []want{{failed, 5, "s", "network_mode", "network of another container (service:…)"}}},
		{"host network, untrusted", keys("network_mode: host"), Options{}, []want{{failed, 5, "s", "network_mode", "no step shares the machine's network"}}},
		{"network, untrusted", keys("network_mode: none"), Options{}, []want{{failed, 5, "s", "network_mode", "an untrusted repository may not set it"}}},
		{"network, trusted", keys("network_mode: none"), trusted, nil},
		{"dns and the like, untrusted", keys("dns: 1.1.1.1,\ndns_search: a,\nextra_hosts: \"a:1.1.1.1\",\nshm_size: 1g"), Options{}, []want{
			{failed, 5, "s", "dns", "an untrusted repository may not set it"}, {failed, 6, "s", "dns_search", "an untrusted repository may not set it"},
			{failed, 7, "s", "extra_hosts", "an untrusted repository may not set it"}, {failed, 8, "s", "shm_size", "an untrusted repository may not set it"}}},
		{"dns and the like, trusted", keys("dns: 1.1.1.1,\ndns_search: a,\nextra_hosts: \"a:1.1.1.1\",\nshm_size: 1g"), trusted, nil},

		// Plugins that build images, and aren't known.
		{"plugin like plugins/docker", steps("- {name: a, image: \"octo/drone-docker:2\", settings: {repo: a/b}}\n"), plugins, []want{{warned, 4, "a", "image", "the runner's operator adds octo/drone-docker to DRONE_RUNNER_DOCKER_PLUGINS"}}},
		{"mirror of plugins/docker", steps("- {name: a, image: mirror.example.com/plugins/docker, settings: {dockerfile: x}}\n"), plugins, []want{{warned, 4, "a", "image", "adds mirror.example.com/plugins/docker to"}}},
		{"plugin for another registry", steps("- {name: a, image: octo/drone-ecr, settings: {repo: a/b}}\n"), plugins, []want{{warned, 4, "a", "image", "octo/drone-ecr"}}},
		{"plugins/docker", steps("- {name: a, image: \"plugins/docker:20\", settings: {repo: a/b}}\n"), plugins, nil},
		{"docker image with commands", steps("- {name: a, image: octo/drone-docker, settings: {repo: a/b}, commands: [c]}\n"), plugins, nil},
		{"docker image without such settings", steps("- {name: a, image: octo/drone-docker, settings: {stack: a}}\n"), plugins, nil},
		{"plugin that builds without Docker", steps("- {name: a, image: plugins/kaniko, settings: {repo: a/b}}\n"), plugins, nil},
		{"plugins that nobody asks about", steps("- {name: a, image: octo/drone-docker, settings: {repo: a/b}}\n"), Options{}, nil},

		// Steps that have no place in the build.
		{"absent step", "volumes: [{name: a, host: {path: /proc}}, {name: b, temp: {}}]\n" + keys("image: Foo, privileged: true, devices: [/dev/kvm], network_mode: host,\nvolumes: [{name: a, path: /a}, {name: b, path: b}]"),
			Options{Trusted: true, RefusePrivileged: true, Absent: everything}, []want{{warned, 1, "", "volumes[0].host.path", "/proc belongs to the machine"},
				{warned, 6, "s", "image", "is no image"}, {warned, 6, "s", "privileged", "refused"}, {warned, 6, "s", "devices", "no step gets"}, {warned, 6, "s", "network_mode", "no step shares"},
				{warned, 7, "s", "volumes[1].path", "relative path"}}},
		{"absent step of an untrusted repository", keys("privileged: true, dns: [x], depends_on: [y]"), Options{Absent: everything}, []want{
			{failed, 5, "s", "privileged", "no step is privileged"}, {failed, 5, "s", "dns", "untrusted"}, {warned, 5, "s", "dns[0]", "no IP address"}, {failed, 5, "s", "depends_on[0]", "no step or service"}}},

		// The pipeline's volumes.
		{"volume without a name", volumes("- temp: {}\n"), Options{}, []want{{failed, 4, "", "volumes[0].name", "has no name"}}},
		{"reserved name", volumes("- {name: workspace, temp: {}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].name", "the runner's own"}}},
		{"another reserved name", volumes("- {name: _workspace, temp: {}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].name", "the runner's own"}}},
		{"a third reserved name", volumes("- {name: _docker_socket, temp: {}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].name", "the runner's own"}}},
		{"two volumes of a name", mounted("- {name: a, temp: {}}\n- {name: a, temp: {medium: memory}}\n"), trusted, []want{{warned, 5, "", "volumes[1].name", "the one in line 4 counts"}}},
		{"volume of nothing, not mounted", volumes("- {name: a}\n"), Options{}, []want{{warned, 4, "", "volumes[0].temp", "write temp: {}"}}},
		{"volume of nothing, mounted", "kind: pipeline\nname: p\nvolumes: [{name: a}]\nsteps: [{name: s, image: a, volumes: [{name: a, path: /a}]}]\n", Options{}, []want{{warned, 3, "", "volumes[0].temp", "write temp: {}"}}},
		{"volume of both", volumes("- {name: a, temp: {}, host: {path: /a}}\n"), trusted, []want{{warned, 4, "", "volumes[0].host", "temp counts: remove one of them"}}},
		{"claim", volumes("- {name: a, claim: {name: data}}\n"), Options{}, []want{{warned, 4, "", "volumes[0].claim", "host: {path: /cache/data}"}}},
		{"memory, untrusted", mounted("- {name: a, temp: {medium: memory}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].temp.medium", "write temp: {}"}}},
		{"memory, trusted", mounted("- {name: a, temp: {medium: memory, size_limit: 1g}}\n"), trusted, nil},
		{"unknown medium", mounted("- {name: a, temp: {medium: floppy}}\n"), trusted, []want{{warned, 4, "", "volumes[0].temp.medium", `"floppy" is no medium`}}},
		{"negative limit", mounted("- {name: a, temp: {medium: memory, size_limit: -1}}\n"), trusted, []want{{failed, 4, "", "volumes[0].temp.size_limit", "-1 is negative"}}},
		{"limit on disk", mounted("- {name: a, temp: {size_limit: 1g}}\n"), Options{}, []want{{warned, 4, "", "volumes[0].temp.size_limit", "write medium: memory"}}},
		{"host without a path", mounted("- {name: a, host: {}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "has no path"}}},
		{"relative host path", mounted("- {name: a, host: {path: ./a}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "no absolute path"}}},
		{"forbidden host path", mounted("- {name: a, host: {path: /sys/fs/cgroup}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "/sys/fs/cgroup belongs to the machine, and no step gets it: remove the volume"}}},
		{"forbidden host path, spelled otherwise", mounted("- {name: a, host: {path: //cache/../etc/}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "/etc belongs to the machine"}}},
		{"another daemon's socket", mounted("- {name: a, host: {path: /run/containerd/containerd.sock}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "the one socket to be had is Docker's"}}},
		{"shared memory", mounted("- {name: a, host: {path: /dev/shm}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "write temp: {medium: memory}"}}},
		{"the daemon's folder", mounted("- {name: a, host: {path: /var/lib/docker}}\n"), trusted, []want{{failed, 4, "", "volumes[0].host.path", "mount host: {path: /var/run/docker.sock}"}}},
		{"forbidden host path, untrusted", mounted("- {name: a, host: {path: /}}\n"), Options{OpenSocket: true, HostPaths: []string{"/"}}, []want{{failed, 4, "", "volumes[0].host.path", "/ belongs to the machine"}}},
		{"cache, untrusted", mounted("- {name: a, host: {path: /cache/npm}}\n"), Options{HostPaths: []string{"/cache"}}, []want{{failed, 4, "", "volumes[0].host.path", "may not keep volumes between builds: write temp: {}"}}},
		{"cache, trusted", mounted("- {name: a, host: {path: /cache/npm}}\n"), trusted, nil},
		{"opened host path", mounted("- {name: a, host: {path: /etc/docker/certs.d}}\n"), Options{Trusted: true, HostPaths: []string{"/etc/docker/certs.d/"}}, nil},
		{"opened host path, left by dots", mounted("- {name: a, host: {path: /etc/docker/x/..}}\n"), Options{Trusted: true, HostPaths: []string{"/etc/docker/x"}}, []want{{failed, 4, "", "volumes[0].host.path", "/etc/docker belongs to the machine"}}},
		{"socket, trusted", mounted("- {name: a, host: {path: //var/run/../run/docker.sock/}}\n- {name: b, host: {path: /var/run}}\n"), trusted, nil},
		{"socket, untrusted", mounted("- {name: a, host: {path: /run/docker.sock}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].host.path", "may not use Docker: build images with image: plugins/docker"}}},
		{"the socket's folder, untrusted", mounted("- {name: a, host: {path: /run}}\n"), Options{}, []want{{failed, 4, "", "volumes[0].host.path", "may not use Docker"}}},
		{"socket, untrusted, open", mounted("- {name: a, host: {path: /run/docker.sock}}\n- {name: b, host: {path: /run}}\n"), Options{OpenSocket: true}, nil},

		{"forbidden host path, not mounted", volumes("- {name: a, host: {path: /proc}}\n"), trusted, []want{{warned, 4, "", "volumes[0].host.path", "/proc belongs to the machine"}}},
		{"host without a path, not mounted", volumes("- {name: a, host: {}}\n"), trusted, []want{{warned, 4, "", "volumes[0].host.path", "has no path"}}},
		{"host path beside temp, untrusted", volumes("- {name: a, temp: {}, host: {path: /a}}\n"), Options{}, []want{{warned, 4, "", "volumes[0].host", "temp counts"}, {failed, 4, "", "volumes[0].host.path", "may not keep volumes"}}},
		{"negative limit on disk", volumes("- {name: a, temp: {size_limit: -1}}\n"), trusted, []want{{warned, 4, "", "volumes[0].temp.size_limit", "no effect"}}},
		{"third volume of a name", volumes("- {name: a, temp: {}}\n- {name: a}\n- {name: a, host: {path: /proc}}\n"), Options{}, []want{{warned, 5, "", "volumes[1].name", "in line 4 counts"}, {warned, 6, "", "volumes[2].name", "in line 4 counts"}}},

		// Mounts.
		{"mount of a volume without a source", "volumes: [{name: a}]\n" + keys("volumes: [{name: a, path: b}]"), Options{}, []want{{warned, 1, "", "volumes[0].temp", "its mounts are ignored"}}},
		{"undeclared volume at no place", keys("volumes: [{name: a}]"), Options{}, []want{{warned, 5, "s", "volumes[0].name", "the mount is ignored"}}},
		{"mount of the runner's own", keys("volumes: [{name: _workspace, path: /a}, {name: workspace, path: /b}]"), Options{}, []want{{failed, 5, "s", "volumes[0].name", "the runner's own"}, {failed, 5, "s", "volumes[1].name", "the runner's own"}}},
		{"mount without a volume", keys("volumes: [{path: /a}]"), Options{}, []want{{warned, 5, "s", "volumes[0].name", "names no volume"}}},
		{"undeclared volume", keys("volumes: [{name: a, path: /a}]"), Options{}, []want{{warned, 5, "s", "volumes[0].name", `"a" is not declared, and the mount is ignored: add {name: a, temp: {}} to the pipeline's volumes`}}},
		{"undeclared volume beside others", "volumes: [{name: x, temp: {}}]\n" + keys("volumes: [{name: a, path: /a}]"), Options{}, []want{{warned, 6, "s", "volumes[0].name", "or mount one of those: x"}}},
		{"mount without a path", "volumes: [{name: a, temp: {}}]\n" + keys("volumes: [{name: a}]"), Options{}, []want{{failed, 6, "s", "volumes[0].path", "has no path"}}},
		{"relative mount", "volumes: [{name: a, temp: {}}]\n" + keys("volumes: [{name: a, path: b}]"), Options{}, []want{{failed, 6, "s", "volumes[0].path", "such as /drone/src/b"}}},
		{"mount in the runner's folder", "volumes: [{name: a, temp: {}}]\n" + keys("volumes: [{name: a, path: /run//x/../drone/y}]"), Options{}, []want{{failed, 6, "s", "volumes[0].path", "/run/drone is the runner's own folder"}}},
		{"mount at the root", "volumes: [{name: a, temp: {}}]\n" + keys("volumes: [{name: a, path: /}]"), Options{}, []want{{failed, 6, "s", "volumes[0].path", "nothing can be mounted at /"}}},
		{"two mounts at one place", "volumes: [{name: a, temp: {}}, {name: b, temp: {}}]\n" + keys("volumes:\n[{name: a, path: /x},\n{name: b, path: /x/}]"), Options{}, []want{{failed, 8, "s", "volumes[1].path", `another volume of the step, "a", is at /x already`}}},
		{"mounts at /var/run", "volumes: [{name: a, temp: {}}]\n" + keys("volumes: [{name: a, path: /var/run}]"), Options{}, nil},

		// The graph.
		{"unknown dependency", steps("- {name: a, image: b, depends_on: [c]}\n- {name: d, image: b}\n"), Options{}, []want{{failed, 4, "a", "depends_on[0]", `no step or service "c": write one of d`}}},
		{"dependency on itself", steps("- {name: a, image: b, depends_on: [a]}\n"), Options{}, []want{{failed, 4, "a", "depends_on[0]", "depends on itself"}}},
		{"clone that is disabled", "clone: {disable: true}\n" + steps("- {name: a, image: b, depends_on: [clone]}\n"), Options{}, []want{{warned, 5, "a", "depends_on[0]", "Drone's server refuses this: there is no step clone, since clone is disabled"}}},
		{"cycle", steps("- {name: a, image: x, depends_on: [b]}\n- {name: b, image: x, depends_on: [c]}\n- {name: c, image: x, depends_on: [a]}\n- {name: d, image: x, depends_on: [a]}\n"), Options{}, []want{{failed, 4, "a", "depends_on", "a → b → c → a"}, {warned, 4, "a", "depends_on[0]", "stands below"}, {warned, 5, "b", "depends_on[0]", "stands below"}}},
		{"two cycles", steps("- {name: a, image: x, depends_on: [b]}\n- {name: b, image: x, depends_on: [a]}\n- {name: c, image: x, depends_on: [d]}\n- {name: d, image: x, depends_on: [c]}\n"), Options{}, []want{
			{failed, 4, "a", "depends_on", "a → b → a"}, {warned, 4, "a", "depends_on[0]", "stands below"},
			{failed, 6, "c", "depends_on", "c → d → c"}, {warned, 6, "c", "depends_on[0]", "stands below"}}},
		{"dependency on a later step, and on a service", steps("- {name: a, image: x, depends_on: [b, db]}\n- {name: b, image: x}\n") + "services: [{name: db, image: x}, {name: e, image: x, depends_on: [db]}]\n", Options{}, []want{{warned, 4, "a", "depends_on[0]", `Drone's server refuses this: the step "b" stands below, in line 5`}}},
		{"service that waits for a step", steps("- {name: a, image: x}\n") + "services: [{name: db, image: x, depends_on: [a]}]\n", Options{}, []want{{failed, 5, "db", "depends_on[0]", "detach: true"}}},
	} {
		t.Run(tt.name, func(t *testing.T) { check(t, tt) })
	}
}

// check parses the row's file, which may be odd only in what the linter looks at, and compares the
// findings.
func check(t *testing.T, tt row) {
	t.Helper()
	f, findings := resource.Parse("f.yml", []byte(tt.yaml))
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	got := Lint("f.yml", f.Pipelines[0], tt.opts)
	if len(got) != len(tt.want) {
		t.Fatalf("got %d findings, want %d:\n%v", len(got), len(tt.want), got)
	}
	for i, w := range tt.want {
		g := got[i]
		if g.Severity != w.severity || g.Line != w.line || g.Step != w.step || g.Key != w.key || !strings.Contains(g.Message, w.text) {
			t.Errorf("got  %s\nwant line %d: %s: step %q: %s: …%s…", g, w.line, w.severity, w.step, w.key, w.text)
		}
		if g.File != "f.yml" || g.Pipeline != f.Pipelines[0].Name || g.Column == 0 {
			t.Errorf("without file, pipeline or column: %+v", g)
		}
	}
}

// TestLintSurvives takes the oddities of public pipelines through substitution, parser and linter:
// none of them stops the build.
func TestLintSurvives(t *testing.T) {
	text, err := resource.Substitute([]byte(`---
kind: pipeline
name: odd
templates:
- &env {TAG: "${DRONE_COMMIT_SHA:0:8}", LITERAL: "$${HOME}", PART: "${DRONE_BRANCH##*/}"}
cache_step: &cache
  image: plugins/cache
  settings: {restore: true}
trigger: {exclude: {branch: x}}
services:
- name: docker
  image: docker:dind
  privileged: true
  entrypoint: [dockerd]
  commands: [--dns=1.1.1.1, --host=unix:///var/run/docker.sock]
  volumes: [{name: dockersock, path: /var/run}]
steps:
- name: restore
  <<: *cache
- name: wait
  image: docker:git
  pull: Always
  environment: *env
  commands: |
    while [ ! -e /var/run/docker.sock ]; do sleep 1; done
    docker ps
  depends_on: [clone]
  volumes: [{name: dockersock, path: /var/run}, {name: claim, path: /data}]
- {name: both, image: plugins/docker, settings: {repo: a/b, auto_tag: yes}, commands: [a], resources: {limits: {cpu: 1}}}
- {name: neither, image: alpine, ports: [80]}
volumes:
- name: dockersock
  temp: {}
- name: claim
  claim: {name: data}
- name: slipped
  image: alpine
  commands: [ls]
...`), map[string]string{"DRONE_COMMIT_SHA": "0123456789", "DRONE_BRANCH": "feature/x"})
	if err != nil {
		t.Fatal(err)
	}
	f, findings := resource.Parse("f", text)
	p, err := f.Pipeline("odd")
	if err != nil {
		t.Fatal(err)
	}
	findings = append(findings, Lint("f", p, trusted)...)
	if err := findings.Err(); err != nil {
		t.Error(err)
	}
	for i, key := range []string{"trigger.exclude", "commands", "resources", "ports", "volumes[2].image", "volumes[2].commands", "volumes[1].claim", "volumes[2].temp"} {
		if i >= len(findings) || findings[i].Key != key {
			t.Fatalf("finding %d is not of %s:\n%v", i, key, findings)
		}
	}
	env := p.Steps[1].Environment
	if env["TAG"].Value != "01234567" || env["LITERAL"].Value != "${HOME}" || env["PART"].Value != "x" {
		t.Errorf("substituted as %v %v %v", env["TAG"], env["LITERAL"], env["PART"])
	}
}

// TestLintAllAtOnce holds that one mistake doesn't hide another, and that findings come in the
// order of the file.
func TestLintAllAtOnce(t *testing.T) {
	check(t, row{yaml: `kind: pipeline
volumes:
- name: docker
  host: {path: /run/docker.sock}
services:
- name: db
  privileged: true
steps:
- image: Bad
  depends_on: [nobody]
  devices: [{path: /dev/kvm}]
  volumes: [{name: nothing, path: /run/drone}]
- name: db
  image: a
clone: {depth: -1}
`, want: []want{
		{failed, 4, "", "volumes[0].host.path", "may not use Docker"},
		{failed, 6, "db", "image", "has no image"},
		{failed, 7, "db", "privileged", "no step is privileged"},
		{failed, 9, "steps[0]", "name", "has no name"},
		{failed, 9, "steps[0]", "image", "is no image"},
		{failed, 10, "steps[0]", "depends_on[0]", `no step or service "nobody"`},
		{failed, 11, "steps[0]", "devices", "no step gets a device"},
		{warned, 12, "steps[0]", "volumes[0].name", "not declared"},
		{failed, 13, "db", "name", "stands in line 6 already"},
		{warned, 15, "", "clone.depth", "negative"},
	}})
}

// TestLintManyCycles holds that a graph that is nothing but cycles is reported in few words.
func TestLintManyCycles(t *testing.T) {
	var b strings.Builder
	const n = 60
	for i := range n {
		fmt.Fprintf(&b, "- {name: s%d, image: a, depends_on: [", i)
		for j := range n {
			if j != i {
				fmt.Fprintf(&b, "s%d, ", j)
			}
		}
		b.WriteString("unknown]}\n")
	}
	f, _ := resource.Parse("f", []byte(steps(b.String())))
	cycles := 0
	for _, finding := range Lint("f", f.Pipelines[0], Options{}) {
		if strings.Contains(finding.Message, "wait for each other") {
			cycles++
		}
		if len(finding.Message) > 1000 {
			t.Fatalf("%d bytes: %s", len(finding.Message), finding)
		}
	}
	if cycles != maxCycles {
		t.Errorf("%d cycles, want %d", cycles, maxCycles)
	}
}

// TestMalformed agrees with Drone's matcher: what is malformed matches nothing, itself included,
// but for alternatives before an unclosed one.
func TestMalformed(t *testing.T) {
	for pattern, want := range map[string]bool{
		"": false, "main": false, "feature/*": false, "**": false, "refs/tags/v[0-9]*": false, "{a,b}": false, `a\{`: false, "a}": false, "[^a]": false,
		"[": true, "[a": true, "{a": true, "{a,{b}": true, `\`: true, "[]": true,
	} {
		if got := malformed(pattern); got != want {
			t.Errorf("%q: %v, want %v", pattern, got, want)
		}
		if c := (&manifest.Condition{Include: []string{pattern}}); want && c.Match(pattern) {
			t.Errorf("Drone matches %q with itself", pattern)
		}
	}
}

// FuzzLint holds that whatever the parser makes of a text, the linter says its findings with a
// place, and panics at none.
func FuzzLint(f *testing.F) {
	f.Add([]byte(keys("volumes: [{name: a, path: b}], depends_on: s, when: {branch: \"[\"}")), false)
	f.Add([]byte("kind: pipeline\nvolumes: [{host: }, {temp: , claim: }]\nservices: [~]\nsteps: [~, {privileged: y, devices: {}}]\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, trust bool) {
		file, _ := resource.Parse("f", data)
		for _, p := range file.Pipelines {
			for _, finding := range Lint("f", p, Options{Trusted: trust}) {
				if finding.Line == 0 || finding.Message == "" || finding.Key == "" {
					t.Errorf("%+v", finding)
				}
			}
		}
	})
}
