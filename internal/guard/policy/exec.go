package policy

import (
	"strings"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// execRules are for container.ExecOptions: a process in a container is as unprivileged as the
// container.
var execRules = []fieldRule{
	{"User", allow},
	{"Privileged", deny("a process in a container gets no more rights than the container", "run it without the flag")},
	{"Tty", allow},
	{"ConsoleSize", allow},
	{"AttachStdin", allow},
	{"AttachStderr", allow},
	{"AttachStdout", allow},
	{"DetachKeys", allow},
	{"Env", allow},
	{"WorkingDir", allow},
	{"Cmd", allow},
	{"Detach", allow},
}

// Exec judges a process in a container of the client's.
func Exec(o *container.ExecOptions) error { return (&judgement{}).judge("", o, execRules) }

// machinePath is why a path of the daemon's isn't for clients.
const machinePath = "it is a path of the daemon's machine"

// Checkpoint judges a checkpoint: it is of the daemon's own keeping.
func Checkpoint(o checkpoint.CreateOptions) error {
	if o.CheckpointDir != "" {
		return apierror.Refuse("CheckpointDir", machinePath, "")
	}
	if !names.Valid(o.CheckpointID) {
		return apierror.BadRequest("Invalid checkpoint ID (%.200s)", o.CheckpointID)
	}
	return nil
}

// CheckpointDir judges the query parameter of that name, by which checkpoints are found elsewhere.
func CheckpointDir(name, dir string) error {
	if dir != "" {
		return apierror.Refuse(name, machinePath, "")
	}
	return nil
}

// psCharacters are those of options of ps that choose columns and rows.
const psCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,=:+%_-"

// Top judges the arguments of ps, which runs in the daemon.
func Top(args string) error {
	if strings.Trim(args, psCharacters) != "" {
		return apierror.Refuse("ps_args "+apierror.Quote(args), "it has characters that no option of ps needs", "")
	}
	return nil
}
