package syscont

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// mount is a line of /proc/PID/mountinfo, as proc_pid_mountinfo(5) has it.
type mount struct {
	root   string // the folder of the filesystem that is mounted
	point  string
	fstype string
	source string
}

// readMounts reads mountinfo. A line that it can't read is an error: a proof never rests on half a file.
func readMounts(r io.Reader) ([]mount, error) {
	var out []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // overlay's options run to many kilobytes
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			return nil, fmt.Errorf("mountinfo: can't read the line %q", lines.Text())
		}
		out = append(out, mount{root: unescape(head[3]), point: unescape(head[4]), fstype: tail[0], source: unescape(tail[1])})
	}
	return out, lines.Err()
}

// unescape undoes the octal escapes that the kernel writes for space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Mount is a mount of this process.
type Mount struct {
	// Point is where it is, and Type the filesystem's.
	Point, Type string
}

// Mounts lists the mounts of this process.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	defer f.Close()
	list, err := readMounts(f)
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	var out []Mount
	for _, m := range list {
		out = append(out, Mount{m.point, m.fstype})
	}
	return out, nil
}
