package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	docker "github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

func newCache() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache [ENVFILE]",
		Short: "Lists the volumes that are kept from build to build",
		Long: `Lists the volumes that stand for host paths of pipelines and are kept from build to build, with their size, when a build last had
them, and the containers that use them now: the longest unused first. They go by themselves when the disk runs short and
nobody has used them for a day (DRONE_RUNNER_CACHE_HIGH). Below, the cells of repositories (DRONE_RUNNER_CELLS), whose volumes are listed
while they run.

The configuration is the daemon's: its DRONE_RUNNER_STATE knows when they were used. Run it inside the runner's container:
docker exec RUNNER drone-runner-sysbox cache

Exit status: 0 if all is well, 1 if Docker doesn't answer or a volume can't be removed, 2 if the configuration or the call is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var kept []keptVolume
			err := withVolumes(cmd.Context(), args, func(d located, list []janitor.Volume) error {
				for _, v := range list {
					kept = append(kept, keptVolume{v, d.cell})
				}
				return nil
			})
			if err != nil {
				return err
			}
			slices.SortStableFunc(kept, func(a, b keptVolume) int { return a.Used.Compare(b.Used) })
			stored, err := cell.ListStored(cellsDir)
			if err == nil {
				err = errors.Join(listVolumes(cmd.OutOrStdout(), kept, time.Now()), listCells(cmd.OutOrStdout(), stored, time.Now()))
			}
			if err != nil {
				return failed(err)
			}
			return nil
		},
	}
	cmd.AddCommand(newCacheRemove())
	return cmd
}

func newCacheRemove() *cobra.Command {
	var envFile string
	cmd := &cobra.Command{
		Use:   "rm PATH|NAME...",
		Short: "Removes volumes that are kept from build to build",
		Long: `Removes volumes that are kept from build to build, by the path that pipelines write (of every repository) or by the volume's name. One that a
container uses stays, and is an error. The next build that wants the path begins with an empty volume.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var config []string
			if envFile != "" {
				config = []string{envFile}
			}
			found := map[string]bool{}
			err := withVolumes(cmd.Context(), config, func(d located, list []janitor.Volume) error {
				var errs []error
				for _, arg := range args {
					there, err := removeVolume(cmd.Context(), cmd.OutOrStdout(), d.docker, list, arg)
					found[arg] = found[arg] || there
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
			if err != nil {
				return err
			}
			var errs []error
			for _, arg := range args {
				if !found[arg] {
					errs = append(errs, fmt.Errorf("remove %s: no volume that is kept from build to build has that path or name; drone-runner-sysbox cache lists them", arg))
				}
			}
			if err := errors.Join(errs...); err != nil {
				return failed(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&envFile, "env-file", "", "a file with more of the daemon's variables")
	return cmd
}

// withVolumes calls f with the persistent volumes of each daemon.
func withVolumes(ctx context.Context, config []string, f func(located, []janitor.Volume) error) error {
	cfg, client, err := loadWithDocker(config)
	if err != nil {
		return err
	}
	defer client.Close()
	err = eachDaemon(cfg, client, func(d located) error {
		ledger, err := cache.Read(d.state)
		if err != nil {
			return err
		}
		list, err := janitor.Volumes(ctx, d.docker, ledger)
		if err != nil {
			return err
		}
		return f(d, list)
	})
	if err != nil {
		return failed(err)
	}
	return nil
}

// keptVolume is a volume in a cell, or in a daemon without one.
type keptVolume struct {
	janitor.Volume
	cell string
}

// listCells is a table of the cells besides the shared one, or nothing if there are none.
func listCells(out io.Writer, list []cell.Stored, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nCELL\tLAST USE\tOF") // Flush reports errors
	for _, s := range list {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, ago(s.Used, now), s.Domain)
	}
	return table.Flush()
}

// ago is a time in words.
func ago(at, now time.Time) string {
	if at.IsZero() {
		return "unknown"
	}
	return units.HumanDuration(max(now.Sub(at), 0)) + " ago"
}

// listVolumes is a table of volumes.
func listVolumes(out io.Writer, list []keptVolume, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no volumes are kept from build to build")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	cells := slices.ContainsFunc(list, func(v keptVolume) bool { return v.cell != "" && v.cell != cell.SharedName })
	row := func(columns []string, in string) {
		if cells {
			columns = append(columns, in)
		}
		_, _ = fmt.Fprintln(table, strings.Join(columns, "\t")) // Flush reports errors
	}
	row([]string{"PATH", "OF", "SIZE", "LAST USE", "USED BY", "VOLUME"}, "CELL")
	for _, v := range list {
		size := "unknown"
		if v.Size >= 0 {
			size = units.BytesSize(float64(v.Size))
		}
		row([]string{v.Path, cmp.Or(v.Owner, "all trusted"), size, ago(v.Used, now), strings.Join(v.Users, ", "), v.Name}, v.cell)
	}
	return table.Flush()
}

// removeVolume removes the volumes that have a path, or the one of a name, and reports whether
// there is one.
func removeVolume(ctx context.Context, out io.Writer, client docker.APIClient, list []janitor.Volume, arg string) (found bool, err error) {
	for _, v := range list {
		if v.Path != arg && v.Path != strings.TrimRight(arg, "/") && v.Name != arg {
			continue
		}
		found = true
		if len(v.Users) > 0 {
			err = errors.Join(err, fmt.Errorf("remove %s (%s): the containers %s use it; wait for their build's end, or cancel it",
				v.Path, v.Name, strings.Join(v.Users, ", ")))
			continue
		}
		if failure := client.VolumeRemove(ctx, v.Name, false); failure != nil {
			err = errors.Join(err, fmt.Errorf("remove %s (%s): %w", v.Path, v.Name, failure))
			continue
		}
		if _, failure := fmt.Fprintf(out, "removed %s (%s)\n", v.Path, v.Name); failure != nil {
			return found, failure
		}
	}
	return found, err
}
