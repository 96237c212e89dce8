// Command celltest starts cells in a system container and keeps them until a signal: what the tests
// of cells run where there is no runner. It listens at port 3000 as a runner does, and tells
// everybody who asks there a secret.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "celltest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, out io.Writer) error {
	if len(names) == 1 && names[0] == cell.InitCommand {
		return cell.Init()
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	up, err := uplink.Find()
	if err != nil {
		return err
	}
	links, err := cell.FindRange(up.Taken)
	if err != nil {
		return err
	}
	if err := cell.RaiseWall(links); err != nil {
		return err
	}
	machine := cell.FindMachine()
	if err := cell.BoundAll(machine.All()); err != nil {
		return err
	}
	http, err := net.Listen("tcp4", ":3000")
	if err != nil {
		return err
	}
	defer http.Close()
	go answer(http) // until http is closed
	log := logrus.New()
	log.SetLevel(logrus.DebugLevel)
	var running sync.WaitGroup
	defer running.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	errs := make(chan error, 2*len(names))
	for i, name := range names {
		link := cell.Link{Number: i, Range: links, MTU: up.MTU}
		c, err := cell.New(cell.Options{
			Name: name, Program: program, Data: filepath.Join("/var/lib/docker/cells", name, "data"), Run: "/run/drone-runner-sysbox",
			Config: func(data, socket string) ([]byte, error) {
				return syscont.DaemonConfig(syscont.DaemonSettings{
					DataRoot: data, Socket: socket, MTU: up.MTU, NetworkMTU: true, DNSOptions: up.Resolver.DaemonOptions(), Taken: append([]netip.Prefix{link.Prefix()}, up.Taken...),
				}, nil)
			},
			Link: link, Resolver: up.Resolver, Bounds: bounds(machine), Environ: []string{"PATH=" + os.Getenv("PATH")}, Log: log.WithField("cell", name),
		})
		if err != nil {
			return err
		}
		began := time.Now()
		running.Go(func() { errs <- c.Run(ctx) })
		running.Go(func() {
			if err := c.Daemon.Ready(ctx); err != nil {
				errs <- err
				return
			}
			fmt.Fprintf(out, "ready %s in %s\n", name, time.Since(began).Round(time.Millisecond))
		})
	}
	<-ctx.Done()
	running.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// answer greets whoever connects.
func answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "the runner\n")
		_ = conn.Close()
	}
}

// bounds are small, so that what overruns them does so at once.
func bounds(m cell.Machine) cell.Bounds {
	b := m.Each(true)
	b.Memory, b.Processes = min(b.Memory, 1<<30), min(b.Processes, 2000)
	return b
}
