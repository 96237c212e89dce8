package config

import "strings"

// alias is an old name of a variable.
type alias struct{ old, now string }

// aliases are the names that Drone's docker runner and its predecessors accept. DRONE_SERVER_HOST,
// _PROTO and _ACME are not here: see applyServer.
func aliases() []alias {
	return []alias{
		{"DRONE_MACHINE", "DRONE_RUNNER_NAME"},
		{"DRONE_RUNNER_OS", "DRONE_PLATFORM_OS"},
		{"DRONE_RUNNER_ARCH", "DRONE_PLATFORM_ARCH"},
		{"DRONE_RUNNER_KERNEL", "DRONE_PLATFORM_KERNEL"},
		{"DRONE_RUNNER_VARIANT", "DRONE_PLATFORM_VARIANT"},
		{"DRONE_REGISTRY_ENDPOINT", "DRONE_REGISTRY_PLUGIN_ENDPOINT"},
		{"DRONE_REGISTRY_SECRET", "DRONE_REGISTRY_PLUGIN_TOKEN"},
		{"DRONE_REGISTRY_PLUGIN_SECRET", "DRONE_REGISTRY_PLUGIN_TOKEN"},
		{"DRONE_REGISTRY_SKIP_VERIFY", "DRONE_REGISTRY_PLUGIN_SKIP_VERIFY"},
		{"DRONE_SECRET_ENDPOINT", "DRONE_SECRET_PLUGIN_ENDPOINT"},
		{"DRONE_SECRET_SECRET", "DRONE_SECRET_PLUGIN_TOKEN"},
		{"DRONE_SECRET_SKIP_VERIFY", "DRONE_SECRET_PLUGIN_SKIP_VERIFY"},
		{"DRONE_LIMIT_MEM_SWAP", "DRONE_MEMORY_SWAP_LIMIT"},
		{"DRONE_LIMIT_MEM", "DRONE_MEMORY_LIMIT"},
		{"DRONE_LIMIT_CPU_QUOTA", "DRONE_CPU_QUOTA"},
		{"DRONE_LIMIT_CPU_SHARES", "DRONE_CPU_SHARES"},
		{"DRONE_LIMIT_CPU_SET", "DRONE_CPU_SET"},
		{"DRONE_LOGS_DEBUG", "DRONE_DEBUG"},
		{"DRONE_LOGS_TRACE", "DRONE_TRACE"},
		{"DRONE_SERVER_PORT", "DRONE_HTTP_BIND"},
		// Of the first agents of Drone 1: a URL, which check takes apart.
		{"DRONE_RPC_SERVER", "DRONE_RPC_HOST"},
	}
}

// applyLegacy gives the values of old names to the new ones, unless those are set.
func (l *loader) applyLegacy() {
	l.dropKubernetes()
	for _, a := range aliases() {
		value, ok := l.env[a.old]
		if !ok {
			continue
		}
		delete(l.env, a.old)
		if _, set := l.env[a.now]; set {
			l.notice("%s is ignored: it is an old name of %s, which is set as well", a.old, a.now)
			continue
		}
		l.env[a.now] = value
		l.notice("%s is an old name of %s: the value is used", a.old, a.now)
	}
	l.applyServer()
}

// applyServer decides what DRONE_SERVER_HOST, _PROTO and _ACME are meant for. They are the Drone
// server's own address in a file that it shares with its runners; the agents of 2019 were told of
// their server by nothing else, so without DRONE_RPC_HOST they are the address to poll. As old
// names of DRONE_HTTP_HOST, _PROTO and _ACME they never had an effect, and have none here.
func (l *loader) applyServer() {
	if host, ok := l.env["DRONE_SERVER_HOST"]; ok && l.env["DRONE_RPC_HOST"] == "" {
		l.env["DRONE_RPC_HOST"] = host
		l.notice("DRONE_RPC_HOST is not set: the runner polls DRONE_SERVER_HOST, %s", host)
		delete(l.env, "DRONE_SERVER_HOST")
		if proto, ok := l.env["DRONE_SERVER_PROTO"]; ok && l.env["DRONE_RPC_PROTO"] == "" &&
			!strings.Contains(host, "://") {
			l.env["DRONE_RPC_PROTO"] = proto
			l.notice("DRONE_RPC_PROTO is not set: DRONE_SERVER_PROTO, %s, is used", proto)
			delete(l.env, "DRONE_SERVER_PROTO")
		}
	}
	for _, name := range []string{"DRONE_SERVER_HOST", "DRONE_SERVER_PROTO", "DRONE_SERVER_ACME"} {
		if _, ok := l.env[name]; ok {
			delete(l.env, name)
			l.notice("%s is ignored: it is the Drone server's address, and the runner's own server answers plain "+
				"HTTP under any name", name)
		}
	}
}
