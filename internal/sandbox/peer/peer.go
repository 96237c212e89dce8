// Package peer names the process at the other end of a unix socket.
package peer

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Of returns the credentials of the process that called connect(2) or listen(2) at the other end,
// as the kernel knows it in our own namespaces (SO_PEERCRED, unix(7)): the pid is 0 for a process
// that is outside of our pid namespace.
func Of(conn *net.UnixConn) (unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("find the peer of a socket: %w", err)
	}
	var cred *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = optErr
	}
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("find the peer of a socket: %w", err)
	}
	return *cred, nil
}
