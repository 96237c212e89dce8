// Package cell runs a Docker daemon in a cell: in pid, mount, network, IPC, UTS and cgroup
// namespaces of its own, with a root that holds its data, its programs and nothing else of the
// system container, bounded in memory, processes and open files, and joined to the system container
// by a cable with NAT.
//
// The runner's process, environment, state, HTTP port, addresses and routes are outside of every
// cell. A cell and the runner share a folder for the sockets of builds, and the daemon's socket.
//
// The one rule to keep: root in a cell is root of the system container's user namespace, since a
// nested one can't have a /proc under Sysbox. So no wall here is a permission, a read-only flag or
// a mask over a mount, which such a root takes away again. What a cell must not have isn't in its
// namespaces: there is no path, no pid and no address for it.
package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"github.com/moby/sys/mountinfo"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// Options describe a cell. All fields but Binds, Bounds, Environ, Prove and Probe are required.
type Options struct {
	// Name is the cell's, of lower-case letters, digits and dashes, 24 at most: it is part of paths
	// of sockets, which are short (unix(7)).
	Name string
	// Program is this program, whose hidden command InitCommand runs Init.
	Program string
	// Data is the folder that the cell's daemon keeps everything in. It has the same path in the
	// cell.
	Data string
	// Run is the folder of the runner's that takes the sockets of cells.
	Run string
	// Binds are more files and folders that the cell sees, at the same paths.
	Binds []string
	// Config is the daemon's configuration for a data folder and a socket.
	Config func(data, socket string) ([]byte, error)
	// Link is the cable to the system container.
	Link Link
	// Resolver is the system container's: DNS queries of the cell are handed on to its name
	// servers.
	Resolver uplink.Resolver
	// Bounds of everything in the cell.
	Bounds Bounds
	// Environ is the whole environment of the daemon.
	Environ []string
	// Prove agrees with a daemon that answers, or ends the cell for good with its error. pid is the
	// cell's first process. nil agrees.
	Prove func(ctx context.Context, socket string, pid int) error
	// Probe is syscont.Daemon's.
	Probe func(context.Context) error
	Log   logrus.FieldLogger
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

// Cell is a Docker daemon behind walls.
//
//  1. Run starts it, starts it anew when it dies, and stops it when its context ends.
//  2. Daemon reports its life: Ready, Stopped, Deaths.
//  3. Client talks to the daemon, and Socket is the path of the daemon's socket for whoever else
//     does. Both are good until Run has returned.
type Cell struct {
	// Daemon is the life of the cell's daemon.
	Daemon *syscont.Daemon
	// Client talks to it.
	Client *client.Client

	o      Options
	ending chan struct{} // closed when Run is on its way out
	mu     sync.Mutex
	group  *group
	pid    int
	fresh  bool // the socket of this life is at hand
}

// New prepares a cell, and starts nothing.
func New(o Options) (*Cell, error) {
	if !validName.MatchString(o.Name) {
		return nil, fmt.Errorf("make a cell: the name %q isn't of 1 to 24 lower-case letters, digits and dashes", o.Name)
	}
	c := &Cell{o: o, ending: make(chan struct{})}
	var err error
	c.Client, err = client.NewClientWithOpts(client.WithHost("unix://"+c.Socket()), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("make a client of the cell %s: %w", o.Name, err)
	}
	c.Daemon = &syscont.Daemon{
		Launch:   c.launch,
		Buried:   c.bury,
		Networks: filepath.Join(o.Data, "network", "files", "local-kv.db"),
		Ping:     c.ping,
		Probe:    o.Probe,
		OnUp:     c.prove,
		Log:      o.Log,
	}
	return c, nil
}

// Ending is closed when Run is told to end, or ends by itself: whatever works with the cell in the
// background ends then, too.
func (c *Cell) Ending() <-chan struct{} { return c.ending }

// Name is the cell's.
func (c *Cell) Name() string { return c.o.Name }

// Data is the daemon's data folder.
func (c *Cell) Data() string { return c.o.Data }

// Socket is the path of the daemon's socket on the runner's side. The cell can't change what is
// there: see adopt.
func (c *Cell) Socket() string { return filepath.Join(c.home(), "docker.sock") }

// Builds is the folder for the sockets of builds, which is at the same path in the cell.
func (c *Cell) Builds() string { return filepath.Join(c.o.Run, "builds", c.o.Name) }

// Netns is the path of the cell's network namespace, which changes with each life of the daemon;
// empty while there is none.
func (c *Cell) Netns() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/ns/net", c.pid)
}

// home is the runner's folder of this cell. The cell sees inner alone.
func (c *Cell) home() string  { return filepath.Join(c.o.Run, "cells", c.o.Name) }
func (c *Cell) inner() string { return filepath.Join(c.home(), "run") }

// Run keeps the cell's daemon alive until ctx ends, and returns when nothing of the cell is left
// but its data. The error is why the cell can't be: what Prove said, for one.
func (c *Cell) Run(ctx context.Context) error {
	say := sync.OnceFunc(func() { close(c.ending) })
	defer say()
	defer context.AfterFunc(ctx, say)()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	dns, err := listenDNS(c.o.Link.Outer(), c.o.Resolver.Nameservers, c.o.Log)
	if err != nil {
		return errors.Join(fmt.Errorf("serve DNS to the cell %s: %w", c.o.Name, err), c.Client.Close())
	}
	var relaying sync.WaitGroup
	relaying.Go(func() { dns.serve(serving) })
	err = c.Daemon.Run(ctx)
	stop()
	relaying.Wait()
	if gone := unix.Unmount(c.Builds(), unix.MNT_DETACH); gone != nil && !errors.Is(gone, unix.EINVAL) && !errors.Is(gone, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", c.Builds(), gone))
	}
	_ = os.Remove(c.Builds()) // what builds have left there, their clean-up removes
	return errors.Join(err, c.Client.Close(), os.RemoveAll(c.home()))
}

// share makes a folder a mount of its own, once, so that what is mounted in it later is mounted in
// the cell as well.
func share(dir string) error {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return fmt.Errorf("see whether it is mounted: %w", err)
	}
	if !mounted {
		if err := mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return mount("", dir, "", unix.MS_SHARED, "")
}

// launch starts a life: the first process is this program's Init, which waits behind a pipe until
// its cgroup and its network are there.
func (c *Cell) launch(out *os.File) (*exec.Cmd, error) {
	setup, err := c.prepare()
	if err != nil {
		return nil, err
	}
	g, err := newGroup(c.o.Name, c.o.Bounds)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command(c.o.Program, InitCommand)
	cmd.Args[0] = "cell:" + c.o.Name
	cmd.Env = append([]string{}, c.o.Environ...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, g.remove())
	}
	if err := c.furnish(cmd.Process.Pid, g, setup, w); err != nil {
		_ = cmd.Process.Kill() // Wait reports how it ended
		_ = cmd.Wait()
		return nil, errors.Join(err, g.remove())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.group, c.pid, c.fresh = g, cmd.Process.Pid, false
	return cmd, nil
}

// prepare makes the folders of a life and describes its root.
func (c *Cell) prepare() (*setup, error) {
	if err := os.RemoveAll(c.home()); err != nil {
		return nil, fmt.Errorf("clear the folder of the cell %s: %w", c.o.Name, err)
	}
	root := filepath.Join(c.home(), "root")
	for _, dir := range []struct {
		path string
		mode fs.FileMode
	}{{c.o.Run, 0o711}, {c.home(), 0o700}, {c.inner(), 0o700}, {root, 0o700}, {c.Builds(), 0o711}, {c.o.Data, 0o710}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return nil, fmt.Errorf("make a folder of the cell %s: %w", c.o.Name, err)
		}
	}
	if err := share(c.Builds()); err != nil {
		return nil, fmt.Errorf("share the folder of builds with the cell %s: %w", c.o.Name, err)
	}
	socket := filepath.Join(c.inner(), "docker.sock")
	config, err := c.o.Config(c.o.Data, socket)
	if err != nil {
		return nil, fmt.Errorf("configure the daemon of the cell %s: %w", c.o.Name, err)
	}
	// For the operator to read: the cell has a copy.
	if err := os.WriteFile(filepath.Join(c.home(), "daemon.json"), config, 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration of the cell %s: %w", c.o.Name, err)
	}
	binds, err := existing(c.o.Binds)
	if err != nil {
		return nil, fmt.Errorf("look for what the cell %s sees: %w", c.o.Name, err)
	}
	return &setup{
		Root:   root,
		Binds:  append([]string{c.o.Data, c.inner(), c.Builds()}, binds...),
		Socket: socket,
		Config: config,
		Resolv: c.resolvConf(),
		Files:  c.o.Bounds.Files,
	}, nil
}

// existing makes what is absent a folder, as Docker does with the source of a bind.
func existing(paths []string) ([]string, error) {
	for _, p := range paths {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(p, 0o755); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// furnish gives the waiting first process its cgroup and its network, and lets it go on.
func (c *Cell) furnish(pid int, g *group, s *setup, w *os.File) error {
	if err := g.add(pid); err != nil {
		return err
	}
	s.Groups = g.mounts()
	if err := c.o.Link.connect(pid); err != nil {
		return fmt.Errorf("connect the cell %s: %w", c.o.Name, err)
	}
	if err := s.write(w); err != nil {
		return fmt.Errorf("describe the cell %s to its first process: %w", c.o.Name, err)
	}
	return nil
}

// bury removes what a life has left outside of its namespaces.
func (c *Cell) bury() error {
	c.mu.Lock()
	g := c.group
	c.group, c.pid = nil, 0
	c.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.remove()
}

// ping asks the daemon, once its socket is there.
func (c *Cell) ping(ctx context.Context) error {
	c.mu.Lock()
	fresh := c.fresh
	c.mu.Unlock()
	if !fresh {
		if err := c.adopt(); err != nil {
			return err
		}
		c.mu.Lock()
		c.fresh = true
		c.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := c.Client.Ping(ctx)
	return err
}

// adopt gives the daemon's socket a second name, which the cell can't reach: whatever the cell puts
// in the place of the first name, a symbolic link to the socket of another cell for one, the runner
// goes on talking to the daemon that it has proven.
func (c *Cell) adopt() error {
	spare := c.Socket() + ".new"
	if err := os.Remove(spare); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(filepath.Join(c.inner(), "docker.sock"), spare); err != nil {
		return fmt.Errorf("take the socket of the cell %s: %w", c.o.Name, err)
	}
	st, err := os.Lstat(spare) // after: link(2) links a symbolic link itself
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return errors.Join(fmt.Errorf("the socket of the cell %s is a %s", c.o.Name, st.Mode()), os.Remove(spare))
	}
	return os.Rename(spare, c.Socket())
}

func (c *Cell) prove(ctx context.Context, pid int) error {
	if c.o.Prove == nil {
		return nil
	}
	return c.o.Prove(ctx, c.Socket(), pid)
}

// resolvConf is resolv.conf(5) of the cell, whose one name server is the runner's relay. Of the
// options only ndots is left out where Docker's resolver would take it to know no name without a
// dot: see uplink.Resolver.DaemonOptions.
func (c *Cell) resolvConf() []byte {
	r := c.o.Resolver
	out := fmt.Appendf(nil, "nameserver %s\n", c.o.Link.Outer())
	if len(r.Search) > 0 {
		out = fmt.Appendf(out, "search %s\n", strings.Join(r.Search, " "))
	}
	options := r.Options
	if n, written := r.Dots(); written && (n == 0 || len(r.Search) == 0) {
		options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return strings.HasPrefix(o, "ndots:") })
	}
	if len(options) > 0 {
		out = fmt.Appendf(out, "options %s\n", strings.Join(options, " "))
	}
	return out
}
