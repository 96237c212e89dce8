package syscont

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/peer"
)

// listener connects to a unix socket and returns the credentials of the process that listens there.
func listener(ctx context.Context, socket string) (unix.Ucred, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("connect to %s: %w", socket, err)
	}
	defer conn.Close()
	cred, err := peer.Of(conn.(*net.UnixConn))
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("%s: %w", socket, err)
	}
	return cred, nil
}

// PeerPID is the process that listens at a unix socket, 0 if it has no name in our pid namespace.
func PeerPID(ctx context.Context, socket string) (int, error) {
	cred, err := listener(ctx, socket)
	return int(cred.Pid), err
}

// socketPath is the path of a unix:// address of a Docker daemon. Every other kind of address is
// refused: a peer over TCP has no process that the kernel would name.
func socketPath(host string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("the Docker address %q is no unix socket, and only of a socket can it be proven where the daemon lives: unset DOCKER_HOST", host)
	}
	return path, nil
}

// namespace is the identity of a process's namespace: "mnt:[4026532253]".
func namespace(proc string, pid string, kind string) (string, error) {
	return os.Readlink(proc + "/" + pid + "/ns/" + kind)
}

// namespaceOf is a question about a namespace (ioctl_nsfs(2)).
type namespaceOf uint

const (
	// namespaceParent asks for the pid namespace that a pid namespace is in.
	namespaceParent namespaceOf = unix.NS_GET_PARENT
	// namespaceOwner asks for the user namespace that a namespace belongs to.
	namespaceOwner namespaceOf = unix.NS_GET_USERNS
)

// namespaceAbove asks the kernel about the namespace at a path of /proc. It answers only about what
// is within our own.
func namespaceAbove(path string, what namespaceOf) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), uint(what))
	if err != nil {
		return "", fmt.Errorf("ask whose %s is: %w", path, err)
	}
	above := os.NewFile(uintptr(fd), path)
	defer above.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// parentOf is the pid of a process's parent, as /proc/PID/stat has it.
func parentOf(proc string, pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	at := strings.LastIndexByte(string(raw), ')')
	f := strings.Fields(string(raw[at+1:]))
	if at < 0 || len(f) < 2 {
		return 0, fmt.Errorf("can't read %s/%d/stat", proc, pid)
	}
	return strconv.Atoi(f[1])
}
