package main

import (
	"errors"
	"fmt"
	"path/filepath"

	docker "github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
)

// site is where a Docker daemon's builds are, as far as they touch this process's machine. The zero
// site is a daemon without a cell.
type site struct {
	// builds is the folder for the sockets of builds.
	builds string
	// netns is the path of the network namespace that the daemon's networks are in.
	netns func() string
}

func siteOf(c *cell.Cell) site { return site{c.Builds(), c.Netns} }

// cellState is the folder for what is known of the cache of a cell.
func cellState(cfg *config.Config, name string) string {
	if name == cell.SharedName {
		return cfg.Runner.State
	}
	return filepath.Join(cfg.Runner.State, "cells", name)
}

// located is a Docker daemon that builds run in.
type located struct {
	// cell is the name of its cell, empty where there are no cells.
	cell   string
	docker *docker.Client
	site   site
	// state is the folder for what is known of its cache.
	state string
}

// eachDaemon calls f with every Docker daemon that a daemon command beside this process has builds
// run in: that of each cell that runs, or the configured one where there are no cells. The errors
// of all come joined.
func eachDaemon(cfg *config.Config, configured *docker.Client, f func(located) error) error {
	running, err := cell.ListRunning(runRoot)
	if err != nil {
		return err
	}
	if len(running) == 0 || configured.DaemonHost() != "unix://"+customSocket {
		return f(located{docker: configured, state: cfg.Runner.State})
	}
	var errs []error
	for _, r := range running {
		client, err := docker.NewClientWithOpts(docker.WithHost("unix://"+r.Socket), docker.WithAPIVersionNegotiation())
		if err == nil {
			err = errors.Join(f(located{r.Name, client, site{r.Builds, r.Netns}, cellState(cfg, r.Name)}), client.Close())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("in the cell %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}
