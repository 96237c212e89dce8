package cell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// cgroups is where control groups are mounted.
const cgroups = "/sys/fs/cgroup"

// parent is the group of all cells, in every hierarchy.
const parent = "cells"

// hierarchy is a mount of control groups: one of cgroup v1's controllers, or v2's tree.
type hierarchy struct {
	point   string
	unified bool
}

// hierarchies lists what is mounted.
func hierarchies() ([]hierarchy, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("see which control groups are mounted: %w", err)
	}
	var out []hierarchy
	for _, m := range mounts {
		if (m.Mountpoint == cgroups || filepath.Dir(m.Mountpoint) == cgroups) && (needed(m.Mountpoint) || unix.Access(m.Mountpoint, unix.W_OK) == nil) {
			out = append(out, hierarchy{m.Mountpoint, m.FSType == "cgroup2"})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no control groups are mounted at " + cgroups)
	}
	return out, nil
}

// needed reports whether a hierarchy is one that cells can't do without. Others, which a container
// may have been given to read alone, Docker does without.
func needed(point string) bool {
	return point == cgroups || slices.Contains([]string{"memory", "pids", "devices"}, filepath.Base(point))
}

// roots are the mount points of all hierarchies.
func roots() []string {
	list, err := hierarchies()
	if err != nil {
		return nil
	}
	var out []string
	for _, h := range list {
		out = append(out, h.point)
	}
	return out
}

// group is the control group of a cell, in every hierarchy.
type group struct {
	name string
	in   []hierarchy
}

// BoundAll bounds all cells together, so that the runner, which is in none, has what is left.
func BoundAll(b Bounds) error {
	in, err := hierarchies()
	if err != nil {
		return fmt.Errorf("bound the cells: %w", err)
	}
	for _, h := range in {
		if err := h.open(); err != nil {
			return fmt.Errorf("bound the cells: %w", err)
		}
		if err := h.bound(parent, b); err != nil {
			return fmt.Errorf("bound the cells: %w", err)
		}
	}
	return nil
}

// newGroup makes the group of a cell with its bounds, in place of the one of a former life.
func newGroup(name string, b Bounds) (*group, error) {
	in, err := hierarchies()
	if err != nil {
		return nil, fmt.Errorf("make the control group of the cell %s: %w", name, err)
	}
	g := &group{name: filepath.Join(parent, name), in: in}
	if err := g.remove(); err != nil {
		return nil, fmt.Errorf("remove the control group of a former life of the cell %s: %w", name, err)
	}
	for _, h := range in {
		err := h.open()
		if err == nil {
			err = h.make(g.name)
		}
		if err == nil {
			err = h.bound(g.name, b)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make the control group of the cell %s: %w", name, err), g.remove())
		}
	}
	return g, nil
}

// open makes the group of all cells. In cgroup v2 a group with processes can't give its controllers
// on: the runner's own go into a group beside it.
func (h hierarchy) open() error {
	if h.unified {
		if err := h.enable(""); err != nil {
			if err := h.evacuate(); err != nil {
				return err
			}
			if err := h.enable(""); err != nil {
				return err
			}
		}
	}
	if err := h.make(parent); err != nil {
		return err
	}
	if h.unified {
		return h.enable(parent)
	}
	return nil
}

// evacuate moves the processes of the root to a group of their own.
func (h hierarchy) evacuate() error {
	const refuge = "runner"
	if err := h.make(refuge); err != nil {
		return err
	}
	for range 10 { // who is moved may fork meanwhile
		pids, err := os.ReadFile(filepath.Join(h.point, "cgroup.procs"))
		if err != nil {
			return err
		}
		list := strings.Fields(string(pids))
		if len(list) == 0 {
			return nil
		}
		for _, pid := range list {
			err := write(filepath.Join(h.point, refuge, "cgroup.procs"), pid)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// enable gives the controllers of a group to those below it.
func (h hierarchy) enable(name string) error {
	return enableAll(filepath.Join(h.point, name))
}

// enableAll gives the controllers of a group of cgroup v2 to those below it.
func enableAll(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(have)) {
		if slices.Contains(strings.Fields(string(on)), controller) {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller); err != nil {
			if controller == "memory" || controller == "pids" {
				return err
			}
			// What this machine doesn't give, Docker warns of by itself.
		}
	}
	return nil
}

// make makes a group. In cgroup v1 one of cpuset takes no process before it has processors.
func (h hierarchy) make(name string) error {
	dir := filepath.Join(h.point, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if h.unified {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue // no group of cpuset, or done
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, file), strings.TrimSpace(string(above))); err != nil {
			return err
		}
	}
	return nil
}

// bound sets the bounds that a hierarchy knows.
func (h hierarchy) bound(name string, b Bounds) error {
	dir := filepath.Join(h.point, name)
	for _, limit := range []struct {
		file  string
		value int64
	}{
		{"memory.limit_in_bytes", b.Memory},
		{"memory.max", b.Memory},
		{"pids.max", b.Processes},
	} {
		file := filepath.Join(dir, limit.file)
		if _, err := os.Stat(file); err != nil || limit.value <= 0 {
			continue
		}
		if err := write(file, strconv.FormatInt(limit.value, 10)); err != nil {
			return err
		}
	}
	return nil
}

// add puts a process into the group.
func (g *group) add(pid int) error {
	for _, h := range g.in {
		if err := write(filepath.Join(h.point, g.name, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("put process %d into a control group: %w", pid, err)
		}
	}
	return nil
}

// mounts are the group's folders, and where the cell has them.
func (g *group) mounts() []groupMount {
	var out []groupMount
	for _, h := range g.in {
		out = append(out, groupMount{Folder: filepath.Join(h.point, g.name), Point: h.point, Unified: h.unified})
	}
	return out
}

// remove removes the group and those below it, whose processes are at their end. None is no error.
func (g *group) remove() error {
	var errs []error
	for _, h := range g.in {
		errs = append(errs, removeGroup(filepath.Join(h.point, g.name)))
	}
	return errors.Join(errs...)
}

// removeGroup removes a group from below. One whose last process has just been killed is busy for
// a moment.
func removeGroup(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() {
			groups = append(groups, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(groups)
	for _, path := range groups {
		var err error
		for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
			if err = unix.Rmdir(path); err == nil || !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(wait)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the control group %s: %w", path, err)
		}
	}
	return nil
}

// write writes a value to a file of the kernel's.
func write(file, value string) error {
	return os.WriteFile(file, []byte(value), 0o644)
}
