package guard

// routes are all endpoints of the Docker Engine API, from its oldest version that a daemon may
// speak to its newest. What isn't here is answered 404; what is here and denied says why. Where two
// patterns fit a path, the first wins.
var routes = []route{
	// system.go
	{"HEAD", "/_ping", "", ping},
	{"GET", "/_ping", "", ping},
	{"GET", "/version", "", version},
	{"GET", "/info", "", info},
	{"POST", "/auth", "", auth},
	{"GET", "/system/df", "type+ verbose", diskUsage},
	{"GET", "/events", "since until filters", events},

	// containers.go
	{"GET", "/containers/json", "all limit size since before filters -trunc_cmd", listContainers},
	{"POST", "/containers/create", "name platform", createContainer},
	{"POST", "/containers/prune", "filters", pruneContainers},
	{"GET", "/containers/{id}/json", "size", inspectContainer},
	{"GET", "/containers/{id}/top", "ps_args", top},
	{"GET", "/containers/{id}/logs", "follow stdout stderr since until timestamps tail details", onContainer},
	{"GET", "/containers/{id}/changes", "", onContainer},
	{"GET", "/containers/{id}/export", "", onContainer},
	{"GET", "/containers/{id}/stats", "stream one-shot", stats},
	{"POST", "/containers/{id}/resize", "h w", onContainer},
	{"POST", "/containers/{id}/start", "detachKeys checkpoint checkpoint-dir", start},
	{"POST", "/containers/{id}/stop", "t signal", onContainer},
	{"POST", "/containers/{id}/restart", "t signal", onContainer},
	{"POST", "/containers/{id}/kill", "signal", onContainer},
	{"POST", "/containers/{id}/update", "", updateContainer},
	{"POST", "/containers/{id}/rename", "name", rename},
	{"POST", "/containers/{id}/pause", "", onContainer},
	{"POST", "/containers/{id}/unpause", "", onContainer},
	{"POST", "/containers/{id}/wait", "condition", wait},
	{"POST", "/containers/{id}/attach", "detachKeys logs stream stdin stdout stderr -hijack", attach},
	{"GET", "/containers/{id}/attach/ws", "detachKeys logs stream stdin stdout stderr", attachWebsocket},
	{"HEAD", "/containers/{id}/archive", "path", onContainer},
	{"GET", "/containers/{id}/archive", "path", onContainer},
	{"PUT", "/containers/{id}/archive", "path noOverwriteDirNonDir copyUIDGID", putArchive},
	{"GET", "/containers/{id}/checkpoints", "dir", checkpoints},
	{"POST", "/containers/{id}/checkpoints", "", createCheckpoint},
	{"DELETE", "/containers/{id}/checkpoints/{checkpoint}", "dir", checkpoints},
	{"DELETE", "/containers/{id}", "v force link", removeContainer},
	{"POST", "/containers/{id}/copy", "", denied("it is a door of the API before 1.24", "use GET /containers/{id}/archive")},

	// exec.go
	{"POST", "/containers/{id}/exec", "", createExec},
	{"POST", "/exec/{id}/start", "", startExec},
	{"POST", "/exec/{id}/resize", "h w", onExec},
	{"GET", "/exec/{id}/json", "", inspectExec},

	// networks.go
	{"GET", "/networks", "filters", listNetworks},
	{"POST", "/networks/create", "", createNetwork},
	{"POST", "/networks/prune", "filters", prune},
	{"GET", "/networks/{network}", "verbose scope", inspectNetwork},
	{"POST", "/networks/{network}/connect", "", connectNetwork},
	{"POST", "/networks/{network}/disconnect", "", disconnectNetwork},
	{"DELETE", "/networks/{network}", "", removeNetwork},

	// volumes.go
	{"GET", "/volumes", "filters", listVolumes},
	{"POST", "/volumes/create", "", createVolume},
	{"POST", "/volumes/prune", "filters", prune},
	{"GET", "/volumes/{id}", "", inspectVolume},
	{"PUT", "/volumes/{id}", "version", denied("it is for volumes of a swarm", "")},
	{"DELETE", "/volumes/{id}", "force", removeVolume},

	// images.go
	{"GET", "/images/json", "all -only_ids filters filter shared-size digests manifests", listImages},
	{"GET", "/images/search", "term limit filters", plain},
	{"GET", "/images/get", "names+ platform", saveImages},
	{"POST", "/images/create", "fromImage fromSrc repo tag message platform changes+", createImage},
	{"POST", "/images/load", "quiet platform", loadImages},
	{"POST", "/images/prune", "filters", pruneImages},
	{"GET", "/images/{name...}/get", "platform", saveImages},
	{"GET", "/images/{name...}/history", "platform", imageHistory},
	{"GET", "/images/{name...}/json", "manifests platform", showImage},
	{"POST", "/images/{name...}/push", "tag platform", pushImage},
	{"POST", "/images/{name...}/tag", "repo tag -force", tagImage},
	{"DELETE", "/images/{name...}", "force -noprune -platforms", deleteImage},
	{"POST", "/commit", "container repo tag comment author pause changes+", commit},
	{"GET", "/distribution/{name...}/json", "", distribution},

	// build.go
	{"POST", "/build", buildQuery, build},
	{"POST", "/build/prune", "all filters keep-storage reserved-space max-used-space min-free-space", pruneNothing("CachesDeleted")},
	{"POST", "/build/cancel", "id", cancelBuild},

	// buildkit.go
	{"POST", "/session", "", buildSession},
	{"POST", "/grpc", "", grpc},

	// What has no place in a stage.
	{"GET", "/plugins", "filters", listPlugins},
	{"GET", "/plugins/privileges", "remote", noPlugins},
	{"GET", "/plugins/{name...}/json", "", absentPlugin},
	{"POST", "/plugins/pull", "remote name", noPlugins},
	{"POST", "/plugins/create", "name", noPlugins},
	{"POST", "/plugins/{name...}/enable", "timeout", absentPlugin},
	{"POST", "/plugins/{name...}/disable", "force", absentPlugin},
	{"POST", "/plugins/{name...}/push", "", absentPlugin},
	{"POST", "/plugins/{name...}/upgrade", "remote", absentPlugin},
	{"POST", "/plugins/{name...}/set", "", absentPlugin},
	{"DELETE", "/plugins/{name...}", "force", absentPlugin},
	{"GET", "/swarm", "", noSwarm},
	{"GET", "/swarm/unlockkey", "", noSwarm},
	{"POST", "/swarm/init", "", beginSwarm},
	{"POST", "/swarm/join", "", beginSwarm},
	{"POST", "/swarm/leave", "force", leaveSwarm},
	{"POST", "/swarm/update", "version rotateWorkerToken rotateManagerToken rotateManagerUnlockKey", noSwarm},
	{"POST", "/swarm/unlock", "", noSwarm},
	{"GET", "/nodes", "filters", noSwarm},
	{"GET", "/nodes/{id}", "", noSwarm},
	{"DELETE", "/nodes/{id}", "force", noSwarm},
	{"POST", "/nodes/{id}/update", "version", noSwarm},
	{"GET", "/services", "filters status", noSwarm},
	{"GET", "/services/{id}", "insertDefaults", noSwarm},
	{"POST", "/services/create", "", noSwarm},
	{"POST", "/services/{id}/update", "version registryAuthFrom rollback", noSwarm},
	{"DELETE", "/services/{id}", "", noSwarm},
	{"GET", "/services/{id}/logs", "follow stdout stderr since timestamps tail details", noSwarm},
	{"GET", "/tasks", "filters", noSwarm},
	{"GET", "/tasks/{id}", "", noSwarm},
	{"GET", "/tasks/{id}/logs", "follow stdout stderr since timestamps tail details", noSwarm},
	{"GET", "/secrets", "filters", noSwarm},
	{"GET", "/secrets/{id}", "", noSwarm},
	{"POST", "/secrets/create", "", noSwarm},
	{"POST", "/secrets/{id}/update", "version", noSwarm},
	{"DELETE", "/secrets/{id}", "", noSwarm},
	{"GET", "/configs", "filters", noSwarm},
	{"GET", "/configs/{id}", "", noSwarm},
	{"POST", "/configs/create", "", noSwarm},
	{"POST", "/configs/{id}/update", "version", noSwarm},
	{"DELETE", "/configs/{id}", "", noSwarm},
	{"GET", "/debug/vars", "", noDebug},
	{"GET", "/debug/pprof", "", noDebug},
	{"GET", "/debug/pprof/{name...}", "debug seconds", noDebug},
}

var (
	noPlugins  = denied("plugins are part of the daemon, which all stages share", "")
	beginSwarm = denied("a stage's daemon is in no swarm", "run containers, or docker compose")
	noDebug    = denied("what the daemon does inside concerns all stages", "")
)
