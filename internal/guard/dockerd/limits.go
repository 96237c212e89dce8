package dockerd

import (
	"bufio"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitNames are the rows of /proc/PID/limits by the names that Docker has for them
// (docker/go-units).
var limitNames = map[string]string{
	"core": "Max core file size", "cpu": "Max cpu time", "data": "Max data size", "fsize": "Max file size", "locks": "Max file locks", "memlock": "Max locked memory",
	"msgqueue": "Max msgqueue size", "nice": "Max nice priority", "nofile": "Max open files", "nproc": "Max processes", "rss": "Max resident set", "rtprio": "Max realtime priority",
	"rttime": "Max realtime timeout", "sigpending": "Max pending signals", "stack": "Max stack size",
}

// capSysResource is the bit of the capability to go above one's hard limits (capabilities(7)).
const capSysResource = 1 << 24

// HardLimits returns the daemon's own hard limits by Docker's names, where its containers can't be
// above. There are none for a daemon that may raise them, and where that can't be looked up.
func (u *Daemon) HardLimits() map[string]int64 {
	pid := u.pid()
	if pid <= 0 {
		return nil
	}
	proc := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return nil
	}
	users, err := os.ReadFile(proc + "/uid_map")
	if err != nil || mayRaise(string(status), string(users)) {
		return nil
	}
	limits, err := os.ReadFile(proc + "/limits")
	if err != nil {
		return nil
	}
	out := map[string]int64{}
	for name, row := range limitNames {
		if n, ok := hardLimit(string(limits), row); ok {
			out[name] = n
		}
	}
	return out
}

// mayRaise reports whether a process may go above its limits: with the capability, in the first
// user namespace.
func mayRaise(status, users string) bool {
	if fields := strings.Fields(users); len(fields) != 3 || fields[0] != "0" || fields[1] != "0" ||
		fields[2] != "4294967295" {
		return false
	}
	for s := bufio.NewScanner(strings.NewReader(status)); s.Scan(); {
		if hex, ok := strings.CutPrefix(s.Text(), "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err != nil || caps&capSysResource != 0
		}
	}
	return true
}

// hardLimit finds a row of /proc/PID/limits: its name, the soft limit, the hard one, and a unit.
func hardLimit(limits, row string) (int64, bool) {
	for s := bufio.NewScanner(strings.NewReader(limits)); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), row+" ")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return 0, false
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		return n, err == nil // "unlimited" is no number
	}
	return 0, false
}

// pid returns the process that listens at the daemon's socket, or 0.
func (u *Daemon) pid() int {
	conn, err := net.Dial("unix", u.socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) { // what it can't tell is 0
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
