package cell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// configFile is where the daemon finds its configuration in the cell.
const configFile = "/etc/docker/daemon.json"

// programs are the folders of the system container that hold programs and libraries.
var programs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"}

// configuration is what the programs need to know, and holds no secret. Absent ones are left out.
var configuration = []string{
	"alternatives", "ca-certificates", "ca-certificates.conf", "containerd", "docker/certs.d", "ethertypes", "group", "host.conf", "hostname", "hosts",
	"iptables", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-x86_64.path", "ld-musl-aarch64.path", "localtime", "mime.types", "modprobe.d", "netconfig", "networks",
	"nsswitch.conf", "os-release", "passwd", "pki", "protocols", "services", "ssl", "timezone", "xattr.conf", "xtables", "xtables.conf",
}

// maxCopy bounds a file of the configuration.
const maxCopy = 8 << 20

// devices are those of the system container that a container needs.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun"}

// build mounts the cell's root. The old API of mounts alone is used: Sysbox refuses the new one.
func (s *setup) build() error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		// What the runner mounts in the folder of builds comes in; nothing gets out.
		{"keep mounts from spreading", func() error { return mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, "") }},
		{"mount the root", func() error { return mount("cell", s.Root, "tmpfs", unix.MS_NODEV, "mode=755") }},
		{"make the folders", s.folders},
		{"show the programs", s.programs},
		{"copy the configuration", s.configure},
		{"mount /proc", func() error {
			return mount("proc", s.at("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
		{"mount /sys", s.sys},
		{"mount the control groups", s.groups},
		{"make the devices", s.devices},
		{"bind what is shared", s.binds},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("build the cell's root: %s: %w", step.what, err)
		}
	}
	return nil
}

// at is a path of the cell as it is named before its root is the root.
func (s *setup) at(path string) string { return filepath.Join(s.Root, path) }

func (s *setup) folders() error {
	for _, dir := range []struct {
		path string
		mode fs.FileMode
	}{
		{"proc", 0o555}, {"sys", 0o555}, {"dev", 0o755}, {"etc/docker", 0o755}, {"run", 0o755}, {"tmp", 0o777 | fs.ModeSticky}, {"root", 0o700}, {"mnt", 0o755},
		{"var/lib", 0o755}, {"var/log", 0o755}, {"var/tmp", 0o777 | fs.ModeSticky}, {"opt", 0o755},
	} {
		if err := os.MkdirAll(s.at(dir.path), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(s.at(dir.path), dir.mode); err != nil {
			return err
		}
	}
	return os.Symlink("/run", s.at("var/run"))
}

// programs shows the programs of the system container by filesystems that can't be written to at
// all: an overlay without an upper folder. A bind could be made writable again by the cell's root,
// and what it then wrote the runner would execute.
func (s *setup) programs() error {
	empty := s.at("mnt")
	for _, name := range programs {
		st, err := os.Lstat("/" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case st.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink("/" + name)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, s.at(name)); err != nil {
				return err
			}
			continue
		}
		if err := os.Mkdir(s.at(name), 0o755); err != nil {
			return err
		}
		if err := mount("overlay", s.at(name), "overlay", unix.MS_RDONLY|unix.MS_NODEV, "lowerdir=/"+name+":"+empty); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// configure copies the configuration of the programs, and writes the cell's own.
func (s *setup) configure() error {
	for _, name := range configuration {
		if err := copyTree(filepath.Join("/etc", name), s.at(filepath.Join("etc", name))); err != nil {
			return err
		}
	}
	for name, content := range map[string][]byte{configFile: s.Config, "/etc/resolv.conf": s.Resolv} {
		if err := os.WriteFile(s.at(name), content, 0o644); err != nil {
			return err
		}
	}
	// Where clients in the cell look for it.
	return os.Symlink(s.Socket, s.at("run/docker.sock"))
}

// copyTree copies files, folders and symbolic links. What is absent or something else is left out.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			return os.MkdirAll(target, 0o755)
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case 0:
			return copyFile(path, target)
		}
		return nil
	})
}

func copyFile(from, to string) error {
	st, err := os.Stat(from)
	if err != nil || st.Size() > maxCopy {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, st.Mode().Perm())
}

// sys mounts a /sys of the cell's network. Where the system container's may not be written to, no
// other one may.
func (s *setup) sys() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := mount("sysfs", s.at("sys"), "sysfs", flags, "")
	if errors.Is(err, unix.EPERM) {
		err = mount("sysfs", s.at("sys"), "sysfs", flags|unix.MS_RDONLY, "")
	}
	return err
}

// groups binds the cell's control group, which is the root of all that it knows.
func (s *setup) groups() error {
	if len(s.Groups) != 1 || s.Groups[0].Point != cgroups {
		if err := mount("cgroups", s.at(cgroups), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
			return err
		}
		// The aliases of cgroup v1: cpu for cpu,cpuacct.
		entries, err := os.ReadDir(cgroups)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type() != fs.ModeSymlink {
				continue
			}
			target, err := os.Readlink(filepath.Join(cgroups, e.Name()))
			if err == nil {
				err = os.Symlink(target, s.at(filepath.Join(cgroups, e.Name())))
			}
			if err != nil {
				return err
			}
		}
	}
	for _, g := range s.Groups {
		if err := os.MkdirAll(s.at(g.Point), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := mount(g.Folder, s.at(g.Point), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", g.Point, err)
		}
	}
	return nil
}

// devices makes a /dev. Nodes can't be made in a user namespace: they are bound.
func (s *setup) devices() error {
	if err := mount("dev", s.at("dev"), "tmpfs", unix.MS_NOSUID, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, name := range devices {
		if _, err := os.Stat("/dev/" + name); err != nil {
			continue
		}
		node := s.at("dev/" + name)
		if err := os.MkdirAll(filepath.Dir(node), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(node, nil, 0o600); err != nil {
			return err
		}
		if err := mount("/dev/"+name, node, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, m := range []struct{ name, kind, data string }{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"},
		{"shm", "tmpfs", "mode=1777,size=64m"},
		{"mqueue", "mqueue", ""},
	} {
		if err := os.Mkdir(s.at("dev/"+m.name), 0o755); err != nil {
			return err
		}
		if err := mount(m.name, s.at("dev/"+m.name), m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, s.at("dev/"+name)); err != nil {
			return err
		}
	}
	return nil
}

// binds puts what is shared with the system container at its own path.
func (s *setup) binds() error {
	for _, path := range s.Binds {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		target := s.at(path)
		if st.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			err = os.WriteFile(target, nil, 0o600)
		}
		if err != nil {
			return err
		}
		if err := mount(path, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	return os.NewSyscallError("mount", unix.Mount(source, target, kind, flags, data))
}
