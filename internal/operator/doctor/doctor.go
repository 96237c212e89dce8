// Package doctor looks at everything that a runner needs and prints, for whatever is wrong, what to
// do about it: the place, the daemon, the disk, the network, the server.
//
// The one rule to keep: a check tries the thing itself, it doesn't guess from settings; and it
// changes nothing that it doesn't put back.
package doctor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// Doctor is what there is to look at.
type Doctor struct {
	Sandbox sandbox.Grade
	// Docker is the daemon that builds run in, and Host its address.
	Docker client.APIClient
	Host   string
	// Cells are the clients of the daemons of the cells that run, by the cells' names, besides the
	// one that Docker is in.
	Cells map[string]client.APIClient
	// Server is the address of the Drone server, http://drone.example.com, and Secret what the
	// runner shares with it.
	Server     string
	Secret     string
	SkipVerify bool
	// Program is the static binary that is run inside a container to look at the network from
	// there: this one.
	Program string
}

// checkTimeout bounds each check by itself: one thing that hangs hides no other.
const checkTimeout = 20 * time.Second

// Examine makes every check, in the order in which one rests on the other.
func (d Doctor) Examine(ctx context.Context) []syscont.Check {
	checks := syscont.Judge(d.Sandbox, syscont.Prover{Host: d.Host, Info: syscont.InfoOf(d.Docker)}.Prove(ctx))
	info, err := d.info(ctx)
	if err != nil {
		checks = append(checks, fail("docker daemon", err.Error(), "start it; inside the runner's image the daemon command does so, and its log says why it doesn't"))
	} else {
		checks = append(checks, pass("docker daemon", "version "+info.ServerVersion), storage(info), disk(info.DockerRootDir))
		checks = append(checks, limits(info)...)
		checks = append(checks, d.inside(ctx)...)
	}
	checks = append(checks, d.cells(ctx)...)
	return append(checks, d.server(ctx)...)
}

// cells proves the daemon of each cell, in a check of its own.
func (d Doctor) cells(ctx context.Context) []syscont.Check {
	var out []syscont.Check
	for _, name := range slices.Sorted(maps.Keys(d.Cells)) {
		c := d.Cells[name]
		bad := syscont.Failed(syscont.Judge(d.Sandbox, syscont.Prover{Host: c.DaemonHost(), Cell: true, Info: syscont.InfoOf(c)}.Prove(ctx)))
		if len(bad) == 0 {
			out = append(out, pass("cell "+name, "its daemon is in namespaces of its own"))
			continue
		}
		var details []string
		for _, b := range bad {
			details = append(details, b.Name+": "+b.Detail)
		}
		out = append(out, fail("cell "+name, strings.Join(details, "; "), bad[0].Fix))
	}
	return out
}

func (d Doctor) info(ctx context.Context) (system.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return d.Docker.Info(ctx)
}

// Print writes the checks as a table: status, name, what was seen, and on a line of its own what to
// do.
func Print(w io.Writer, checks []syscont.Check) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range checks {
		fmt.Fprintf(t, "%s\t%s\t%s\n", strings.ToUpper(string(c.Status)), c.Name, oneLine(c.Detail))
		if c.Fix != "" && c.Status != syscont.Pass {
			fmt.Fprintf(t, "\t\t→ %s\n", oneLine(c.Fix))
		}
	}
	return t.Flush()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func pass(name, detail string) syscont.Check {
	return syscont.Check{Name: name, Status: syscont.Pass, Detail: detail}
}

func warn(name, detail, fix string) syscont.Check {
	return syscont.Check{Name: name, Status: syscont.Warn, Detail: detail, Fix: fix}
}

func fail(name, detail, fix string) syscont.Check {
	return syscont.Check{Name: name, Status: syscont.Fail, Detail: detail, Fix: fix}
}
