package syscont

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// fixFilesystems is the advice when mounts fail that worked at the start.
const fixFilesystems = "Sysbox's file-system daemon (sysbox-fs) has died or hangs; restart Sysbox on the host, then this container"

// errBusy says that an earlier probe still hangs in the kernel.
var errBusy = errors.New("an earlier attempt still hangs")

// place probes what containers need of the machine. It holds one probe at a time: one that hangs in
// the kernel can't be taken back.
type place struct {
	// dir is where a file system is mounted for a moment, in a mount namespace of its own.
	dir string
	// sysbox looks at the mounts of sysbox-fs as well.
	sysbox bool

	slot chan struct{}
}

func newPlace(dir string, sysbox bool) *place {
	return &place{dir: filepath.Join(dir, "probe"), sysbox: sysbox, slot: make(chan struct{}, 1)}
}

// check reports whether file systems can be mounted, as the start of every container does. Under
// Sysbox the kernel passes mount(2) on to sysbox-fs. The error is a *PlaceError.
func (p *place) check(ctx context.Context) error {
	select {
	case p.slot <- struct{}{}:
	default:
		return &PlaceError{Err: fmt.Errorf("file systems can't be mounted: %w", errBusy), Fix: fixFilesystems}
	}
	done := make(chan error, 1)
	go func() {
		err := p.mount()
		<-p.slot
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return &PlaceError{Err: err, Fix: fixFilesystems}
		}
		return nil
	case <-ctx.Done():
		return &PlaceError{Err: fmt.Errorf("file systems can't be mounted: %w", context.Cause(ctx)), Fix: fixFilesystems}
	}
}

// mount mounts a small file system and removes it. It ends the calling goroutine's thread, which is
// in a mount namespace of its own.
func (p *place) mount() error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if p.sysbox {
		if _, err := statfsType("/proc/sys"); err != nil {
			return fmt.Errorf("look at /proc/sys: %w", err)
		}
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("make a folder to mount at: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("probe", p.dir, "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("mount a file system: %w", err)
	}
	if err := unix.Unmount(p.dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount a file system: %w", err)
	}
	return nil
}
