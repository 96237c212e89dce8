package policy

// configRules are for container.Config: what runs inside, which a stage may choose, and the labels.
var configRules = []fieldRule{
	{"Hostname", allow},
	{"Domainname", allow},
	{"User", allow}, // root of an unprivileged container is no more than root of a step
	{"AttachStdin", allow},
	{"AttachStdout", allow},
	{"AttachStderr", allow},
	{"ExposedPorts", allow}, // publishes nothing by itself
	{"Tty", allow},
	{"OpenStdin", allow},
	{"StdinOnce", allow},
	{"Env", allow},
	{"Cmd", allow},
	{"Healthcheck", allow}, // runs in the container
	{"ArgsEscaped", allow},
	{"Image", allow},           // resolved
	{"Volumes", volumeTargets}, // become mounts of labelled volumes: fillVolumes
	{"WorkingDir", allow},
	{"Entrypoint", allow},
	{"NetworkDisabled", allow},
	{"MacAddress", allow},
	{"OnBuild", allow},
	{"Labels", containerLabels},
	{"StopSignal", allow},
	{"StopTimeout", allow}, // removal at the stage's end kills
	{"Shell", allow},
}

// hostRules are for container.HostConfig: what a container gets of the machine.
var hostRules = []fieldRule{
	{
		"Privileged",
		deny(
			"a stage's containers are unprivileged",
			"most such containers only need Docker: mount /var/run/docker.sock, which is this stage's own",
		),
	},
	{"CapAdd", capAdd},
	{"CapDrop", allow},
	{"SecurityOpt", securityOpt},
	{"MaskedPaths", mustBeNull},
	{"ReadonlyPaths", mustBeNull},
	{"Annotations", deny("annotations speak to the daemon's runtime", "use labels")},
	{"Runtime", runtime},
	{"Sysctls", sysctls},
	{"StorageOpt", deny("storage options are the runner's", "")},
	{"VolumeDriver", oneOf("only the local volume driver may be used", "", "", "local")},
	{"Isolation", oneOf("isolation is for Windows", "", "", "default")},
	{"Cgroup", deny("containers have cgroups of their own", "")},

	{"PidMode", joined("the process namespace", false)},
	{"IpcMode", joined("the IPC namespace", false, "", "none", "private", "shareable")},
	{"UTSMode", oneOf("the machine's host name stays its own", "", "")},
	{"UsernsMode", usernsMode},
	{"CgroupnsMode", oneOf("the cgroup namespace of the machine isn't shared", "", "", "private")},

	{"NetworkMode", networkMode},
	{"Links", links}, // become links on the stage's network: fillEndpoints
	{"PortBindings", publish},
	{"PublishAllPorts", allow}, // becomes PortBindings: fillPorts
	{"ExtraHosts", extraHosts},
	{"DNS", allow},
	{"DNSOptions", allow},
	{"DNSSearch", allow},

	{"VolumesFrom", volumesFrom},
	{"Tmpfs", tmpfs},
	{"Mounts", mountsRule}, // what their sources mean: fillMounts
	{"Binds", binds},       // become Mounts: fillMounts
	{"GroupAdd", groups},

	{"RestartPolicy", restartPolicy},
	{"AutoRemove", allow},
	{"LogConfig", logConfig},
	{"ContainerIDFile", allow}, // the daemon only shows it
	{"ConsoleSize", allow},
	{"ReadonlyRootfs", allow},
	{"Init", allow},
	{"OomScoreAdj", oomScore},
	{"ShmSize", shmSize},
	{"Resources", sub(resourceRules)},
}

// resourceRules are for container.Resources, in creation, in update and in builds.
var resourceRules = []fieldRule{
	{"CPUShares", clamp(func(l Limits) int64 { return l.CPUShares })},
	{"Memory", clamp(func(l Limits) int64 { return l.Memory })},
	{"MemorySwap", memorySwap},
	{"MemoryReservation", allow}, // a soft limit, below Memory or refused by the daemon
	{"MemorySwappiness", allow},
	{"NanoCPUs", allow}, // bounded together with the next two: fillCPU
	{"CPUPeriod", allow},
	{"CPUQuota", allow},
	{"CPURealtimePeriod", deny("real-time scheduling starves others", "")},
	{"CPURealtimeRuntime", deny("real-time scheduling starves others", "")},
	{"CpusetCpus", cpuset},
	{"CpusetMems", allow},
	{"CgroupParent", deny("the cgroup of a stage's containers is the runner's choice", "")}, // the stage's: Create
	{"BlkioWeight", allow}, // a share among the stage's own siblings
	{"BlkioWeightDevice", deny("devices are the machine's", "")},
	{"BlkioDeviceReadBps", deny("devices are the machine's", "")},
	{"BlkioDeviceWriteBps", deny("devices are the machine's", "")},
	{"BlkioDeviceReadIOps", deny("devices are the machine's", "")},
	{"BlkioDeviceWriteIOps", deny("devices are the machine's", "")},
	{"Devices", deny("a stage's containers get no devices", "")},
	{"DeviceCgroupRules", deny("a stage's containers get no devices", "")},
	{"DeviceRequests", deny("a stage's containers get no devices", "")},
	{"KernelMemory", kernelMemory},
	{"KernelMemoryTCP", kernelMemory},
	{"OomKillDisable", deny("a container that isn't killed for memory takes the machine's", "")},
	{"PidsLimit", clamp(func(l Limits) int64 { return l.Pids })},
	{"Ulimits", ulimits},
	{"CPUCount", deny("it is for Windows", "use NanoCpus")},
	{"CPUPercent", deny("it is for Windows", "use NanoCpus")},
	{"IOMaximumIOps", deny("it is for Windows", "")},
	{"IOMaximumBandwidth", deny("it is for Windows", "")},
}
