package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

func newPrune() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune [ENVFILE]",
		Short: "Removes what builds have left behind",
		Long: `Removes the containers, networks and volumes that builds of this runner have left behind, as the daemon does by itself at start and
every DRONE_RUNNER_REAP_INTERVAL. What belongs to a build that runs is left alone, and so are images, the volumes that are kept
from build to build, and whatever isn't this runner's. Cells that don't run are cleaned when they are started.

The configuration is the daemon's: its DRONE_RUNNER_NAME says what is this runner's, its DRONE_RUNNER_STATE what runs. Run it
inside the runner's container: docker exec RUNNER drone-runner-sysbox prune

Exit status: 0 if nothing is left, or for --dry-run if all could be listed; 1 if something couldn't be removed; 2 if the
configuration is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, client, err := loadWithDocker(args)
			if err != nil {
				return err
			}
			defer client.Close()
			log := newLog(io.Discard, cfg)
			var found []engine.Remains
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			err = eachDaemon(cfg, client, func(d located) error {
				w := wiring{cfg: cfg, log: log, docker: d.docker, site: d.site}
				j := &janitor.Janitor{Engine: w.engine(), Runner: cfg.Runner.Name, Runs: runningIn(cfg), Log: log}
				look := j.Reap
				if dryRun {
					look = j.Find
				}
				some, err := look(cmd.Context())
				found = append(found, some...)
				return err
			})
			if err := errors.Join(report(cmd.OutOrStdout(), verb, cfg.Runner.Name, found), err); err != nil {
				return failed(err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "list what would be removed, and remove nothing")
	return cmd
}

// runningIn tells which runs are alive, as the state folder has it: those in the journal of a
// runner that lives. What was in it before one is asked for the first time doesn't matter, so it is
// read then.
func runningIn(cfg *config.Config) func(spec string) (bool, error) {
	alive := sync.OnceValues(func() (map[string]bool, error) {
		out := map[string]bool{}
		used, err := journal.InUse(cfg.Runner.State)
		if !used || err != nil {
			return out, err
		}
		records, err := journal.Records(cfg.Runner.State)
		for _, r := range records {
			out[r.Spec] = true
		}
		return out, err
	})
	return func(spec string) (bool, error) {
		runs, err := alive()
		return runs[spec], err
	}
}

// report lists what is left of each run, or was.
func report(out io.Writer, verb, owner string, found []engine.Remains) error {
	if len(found) == 0 {
		_, err := fmt.Fprintf(out, "nothing is left of builds of %s that are over\n", owner)
		return err
	}
	for _, r := range found {
		if _, err := fmt.Fprintf(out, "%s %s of the run %s (owner %s, age %s)\n", verb, r, r.Spec, owner, janitor.Age(r, time.Now())); err != nil {
			return err
		}
		for _, kind := range []struct {
			name  string
			names []string
		}{{"container", r.Containers}, {"network", r.Networks}, {"volume", r.Volumes}} {
			for _, name := range kind.names {
				if _, err := fmt.Fprintf(out, "  %s %s\n", kind.name, name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
