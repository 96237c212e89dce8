// Package proctree finds the processes of a container in /proc, and which of them want to know that
// they are to end.
//
// The one rule to keep: it looks from the outside, by what the kernel says of each process. Nothing
// inside the container is needed for it, no program and no privilege, and where the container's
// processes can't be seen (a daemon on another machine) there are none.
package proctree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one process of a container.
type Process struct {
	// PID and Parent as this process sees them.
	PID, Parent int
	// Init is the container's first process. The kernel withholds from it each signal from inside
	// that it doesn't handle.
	Init bool
	// Ended is a zombie: it runs no longer.
	Ended bool
	// Handles is set if SIGTERM doesn't just end it: it catches, blocks or ignores it.
	Handles bool
}

// Tree are the processes of one container, parents before their children as far as the kernel
// counts pids up.
type Tree struct {
	container string
	proc      string
	processes []Process
}

// Of finds the processes of the container with that full id, by their cgroups, whose paths carry
// it. It finds those in pid namespaces below this one, whatever pids they have in there.
func Of(container string) (Tree, error) { return of("/proc", container) }

func of(proc, container string) (Tree, error) {
	t := Tree{container: container, proc: proc}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return t, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !t.has(pid) {
			continue
		}
		if p, ok := t.read(pid); ok {
			t.processes = append(t.processes, p)
		}
	}
	slices.SortFunc(t.processes, func(a, b Process) int { return a.PID - b.PID })
	return t, nil
}

// has reports whether a process is the container's.
func (t Tree) has(pid int) bool {
	groups, err := os.ReadFile(filepath.Join(t.proc, strconv.Itoa(pid), "cgroup"))
	return err == nil && bytes.Contains(groups, []byte(t.container))
}

// read reads what proc_pid_status(5) says; false for a process that has gone.
func (t Tree) read(pid int) (Process, bool) {
	status, err := os.ReadFile(filepath.Join(t.proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return Process{}, false
	}
	p := Process{PID: pid}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			p.Ended = strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X")
		case "PPid":
			p.Parent, _ = strconv.Atoi(value)
		case "NSpid": // its pids, from this namespace down to its own
			pids := strings.Fields(value)
			p.Init = len(pids) > 1 && pids[len(pids)-1] == "1"
		case "SigBlk", "SigIgn", "SigCgt":
			mask, _ := strconv.ParseUint(value, 16, 64)
			p.Handles = p.Handles || mask&(1<<(unix.SIGTERM-1)) != 0
		}
	}
	return p, true
}

// Init is the container's first process.
func (t Tree) Init() (Process, bool) {
	i := slices.IndexFunc(t.processes, func(p Process) bool { return p.Init })
	if i < 0 {
		return Process{}, false
	}
	return t.processes[i], true
}

// Graceful are the processes to which SIGTERM should go: in each branch of the tree the first one
// that handles it. What is below belongs to that one, which stops it as it sees fit.
func (t Tree) Graceful() []Process {
	children := map[int][]Process{}
	known := map[int]bool{}
	for _, p := range t.processes {
		known[p.PID] = true
	}
	var roots []Process
	for _, p := range t.processes {
		if known[p.Parent] {
			children[p.Parent] = append(children[p.Parent], p)
		} else {
			roots = append(roots, p) // the first one, and those that docker exec has started
		}
	}
	var out []Process
	for walk := roots; len(walk) > 0; walk = walk[1:] {
		switch p := walk[0]; {
		case p.Handles && !p.Ended:
			out = append(out, p)
		default:
			walk = append(walk, children[p.PID]...)
		}
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out
}

// Ancestors are the processes between the container's first one and p, the first one included and p
// not.
func (t Tree) Ancestors(p Process) []Process {
	var out []Process
	for range t.processes { // no parent comes twice; a bound, should pids have been given anew meanwhile
		i := slices.IndexFunc(t.processes, func(q Process) bool { return q.PID == p.Parent })
		if i < 0 {
			break
		}
		p = t.processes[i]
		out = append(out, p)
	}
	return out
}

// Lives reports whether a process of the tree still runs.
func (t Tree) Lives(p Process) bool {
	now, ok := t.read(p.PID)
	return ok && !now.Ended && t.has(p.PID)
}

// Signal sends a signal to a process of the tree. One that has ended needs none. The process is
// pinned, then looked at, then signalled, so that no other one that has got its pid meanwhile is
// hit.
func (t Tree) Signal(p Process, s unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	switch {
	case err == unix.ESRCH:
		return nil
	case err != nil:
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !t.has(p.PID) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}
