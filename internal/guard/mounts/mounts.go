// Package mounts makes mount points for parts of volumes, for Docker daemons that can only mount
// whole ones.
//
// The one rule to keep: a path below a volume is resolved by the kernel, never by this package, and
// what is mounted is what the kernel found.
package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/peer"
)

// Points are mount points for parts of volumes, for daemons that can only mount whole ones.
//
// The property: what a mount point shows is below the volume's root, whatever symbolic links the
// stage's containers put there and whatever they rename while we look. The kernel itself resolves
// the path, with openat2(2) and RESOLVE_BENEATH, to a descriptor; what is mounted is that
// descriptor, not a path; and the daemon is given the mount point, in a folder that no container
// reaches.
type Points struct {
	dir    string
	daemon string // the path of its socket

	mu     sync.Mutex
	made   bool
	next   int
	same   bool // the daemon shares our mount namespace; asked once
	closed bool
}

// New are mount points below dir, for a daemon that has its socket there. An empty dir refuses
// them.
func New(dir, daemon string) *Points { return &Points{dir: dir, daemon: daemon} }

// maxFolders bounds the mounts of one stage.
const maxFolders = 1024

var (
	// ErrUnavailable says that the runner has no folder for mount points, or may not mount.
	ErrUnavailable = errors.New("this runner can't mount a part of a volume")
	// ErrLeadsOut says that a link or ".." of the path leaves the volume.
	ErrLeadsOut = errors.New("it leads out of the volume")

	errEnded = errors.New("the guard is closed: its stage has ended")
)

// Add mounts what is at rel below root, and is the path of the mount point. create makes missing
// folders.
func (f *Points) Add(root, rel string, create bool) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(); err != nil {
		return "", err
	}
	if f.next >= maxFolders {
		return "", fmt.Errorf("the stage has %d such mounts already", f.next)
	}
	fd, err := openBeneath(root, rel, create)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", rel, err)
	}
	target := filepath.Join(f.dir, strconv.Itoa(f.next))
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = os.Mkdir(target, 0o700)
	case unix.S_IFREG, unix.S_IFSOCK, unix.S_IFIFO:
		err = os.WriteFile(target, nil, 0o600)
	default:
		return "", errors.New("it is neither a folder nor a file")
	}
	if err != nil {
		return "", fmt.Errorf("make a mount point: %w", err)
	}
	f.next++
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", errors.Join(fmt.Errorf("mount %s: %w", rel, err), os.Remove(target))
	}
	return target, nil
}

// ready makes the folder of mount points, once, and checks that the daemon will see what is mounted
// there.
func (f *Points) ready() error {
	if f.closed {
		return errEnded
	}
	if f.dir == "" {
		return ErrUnavailable
	}
	if !f.same {
		if err := shareMounts(f.daemon, f.dir); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		f.same = true
	}
	if !f.made {
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return fmt.Errorf("make the folder of mount points: %w", err)
		}
		f.made = true
	}
	return nil
}

// Shared is nil if the daemon sees what is mounted here, and says why it doesn't otherwise.
func (f *Points) Shared() error { return shareMounts(f.daemon, f.dir) }

// Check tells, of a part of a volume that the daemon is going to mount itself, whether it's there
// and within the volume; create makes missing folders. The daemon does so once more, safely, when
// the container starts, but words it with its own paths. If the guard and the daemon don't see the
// same files, it's left to the daemon.
func (f *Points) Check(root, rel string, create bool) error {
	if shareMounts(f.daemon, f.dir) != nil {
		return nil
	}
	if _, err := os.Stat(root); err != nil {
		return nil
	}
	fd, err := openBeneath(root, rel, create)
	switch {
	case err == nil:
		_ = unix.Close(fd)
	case errors.Is(err, ErrLeadsOut), errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// Close undoes the mounts and removes their folder.
func (f *Points) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if !f.made {
		return nil
	}
	return Clean(f.dir)
}

// Clean undoes the mounts in the MountDir of a guard that is gone (its process was killed), and
// removes the folder. No container must be using them. A folder that doesn't exist is clean.
func Clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		// What is below a mount that stays is the stage's data: os.Remove, which removes no folder
		// with content, is as much as may be done.
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
			continue
		}
		errs = append(errs, os.Remove(p))
	}
	return errors.Join(append(errs, err, os.Remove(dir))...)
}

// shareMounts returns why the daemon doesn't see what is mounted below dir, or nil.
func shareMounts(daemon, dir string) error {
	conn, err := net.Dial("unix", daemon)
	if err != nil {
		return err
	}
	defer conn.Close()
	cred, err := peer.Of(conn.(*net.UnixConn))
	if err != nil {
		return err
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(int(cred.Pid)) + "/ns/mnt")
	if err != nil {
		return fmt.Errorf("the docker daemon's mount namespace isn't known: %w", err)
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	if ours == theirs {
		return nil
	}
	return spreads(dir, int(cred.Pid))
}

// spreads returns nil if what is mounted below dir is mounted for a process in another mount
// namespace as well: if the mount that dir is in is shared, and the other's at the same place is
// its slave or its peer (mount_namespaces(7)).
func spreads(dir string, pid int) error {
	ours, err := mountAt("/proc/self/mountinfo", dir)
	if err != nil {
		return err
	}
	theirs, err := mountAt(fmt.Sprintf("/proc/%d/mountinfo", pid), dir)
	if err != nil {
		return fmt.Errorf("the docker daemon's mounts aren't known: %w", err)
	}
	for group := range ours.groups("shared:") {
		for _, kind := range []string{"master:", "shared:"} {
			for theirs := range theirs.groups(kind) {
				if theirs == group {
					return nil
				}
			}
		}
	}
	return errors.New("the docker daemon is in another mount namespace")
}

// mountLine is a line of mountinfo, in words.
type mountLine []string

// mountAt is the mount that a path is in, as a process sees it.
func mountAt(mountinfo, path string) (mountLine, error) {
	raw, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, err
	}
	var found mountLine
	for line := range strings.Lines(string(raw)) {
		words := mountLine(strings.Fields(line))
		if len(words) < 7 {
			continue
		}
		point := strings.TrimSuffix(words[4], "/")
		if (path == point || strings.HasPrefix(path, point+"/")) && (found == nil || len(words[4]) >= len(found[4])) {
			found = words
		}
	}
	return found, nil
}

// groups yields the peer groups of a kind that a mount is in: "shared:12" is in 12.
func (l mountLine) groups(kind string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, word := range l {
			if i < 6 {
				continue
			}
			if word == "-" {
				return
			}
			if group, ok := strings.CutPrefix(word, kind); ok && !yield(group) {
				return
			}
		}
	}
}

// openBeneath opens what is at rel below root, without any right but to name it (O_PATH). Symbolic
// links are followed as long as they stay below root; the kernel checks each step. create makes
// missing folders, with the rights that Docker gives them.
func openBeneath(root, rel string, create bool) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(base)
	fd, err := beneath(base, rel)
	if !create || !errors.Is(err, unix.ENOENT) {
		return fd, wordBeneath(rel, err)
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		at := path.Join(parts[:i+1]...)
		parent := base
		if i > 0 {
			if parent, err = beneath(base, path.Join(parts[:i]...)); err != nil {
				return -1, wordBeneath(at, err)
			}
		}
		err = unix.Mkdirat(parent, parts[i], 0o755)
		if parent != base {
			_ = unix.Close(parent)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("make the folder %s: %w", at, err)
		}
	}
	fd, err = beneath(base, rel)
	return fd, wordBeneath(rel, err)
}

// beneath resolves a path below a folder. The kernel gives up (EAGAIN) when something is renamed
// meanwhile.
func beneath(base int, rel string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(base, rel, &how)
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && tries < 64 {
			continue
		}
		return fd, err
	}
}

func wordBeneath(rel string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EAGAIN):
		return ErrLeadsOut
	case errors.Is(err, unix.ENOENT):
		return fs.ErrNotExist
	}
	return fmt.Errorf("open %s: %w", rel, err)
}
