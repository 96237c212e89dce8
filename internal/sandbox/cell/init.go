package cell

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// InitCommand is the hidden command of this program that runs Init.
const InitCommand = "cell-init"

// Init is the first process of a cell. It is in the cell's namespaces already, all but the one of
// control groups, and becomes the daemon's parent: it returns only if it fails.
func Init() error {
	// A thread is what enters a namespace, and the one that calls exec is the one that lives on.
	runtime.LockOSThread()
	s, err := readSetup()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter a namespace of control groups: %w", err)
	}
	for _, g := range s.Groups {
		if err := g.settle(); err != nil {
			return fmt.Errorf("enter the control group of the cell: %w", err)
		}
	}
	if err := s.build(); err != nil {
		return err
	}
	if err := pivot(s.Root); err != nil {
		return fmt.Errorf("change the root to the cell's: %w", err)
	}
	if s.Files > 0 {
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
			return fmt.Errorf("read the limit of open files: %w", err)
		}
		// What is lower already can't be raised without a privilege that nobody has in here.
		most := min(now.Max, s.Files)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit open files to %d: %w", most, err)
		}
	}
	// docker-init reaps what the daemon's children leave, and hands signals on.
	program, err := exec.LookPath("docker-init")
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	return os.NewSyscallError("exec", unix.Exec(program, []string{"docker-init", "--", "dockerd", "--config-file=" + configFile}, os.Environ()))
}

// settle makes a group of cgroup v2 one that can have groups below it: its processes, which is this
// one, go into a group beside those.
func (g groupMount) settle() error {
	if !g.Unified {
		return nil
	}
	init := filepath.Join(g.Folder, "init")
	if err := os.Mkdir(init, 0o755); err != nil {
		return err
	}
	if err := write(filepath.Join(init, "cgroup.procs"), "0"); err != nil {
		return err
	}
	return enableAll(g.Folder)
}

// pivot makes a mount the root, and lets go of the one before, as pivot_root(2) describes it.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}
