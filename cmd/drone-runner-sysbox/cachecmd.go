package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	docker "github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

func newCache() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache [ENVFILE]",
		Short: "Lists the volumes that are kept from build to build",
		Long: `Lists the volumes that stand for host paths of pipelines and are kept from build to build, with their size, when a build last had
them, and the containers that use them now: the longest unused first. They go by themselves when the disk runs short and
nobody has used them for a day (DRONE_RUNNER_CACHE_HIGH).

The configuration is the daemon's: its DRONE_RUNNER_STATE knows when they were used. Run it inside the runner's container:
docker exec RUNNER drone-runner-sysbox cache

Exit status: 0 if all is well, 1 if Docker doesn't answer or a volume can't be removed, 2 if the configuration or the call is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withVolumes(cmd.Context(), args, func(_ docker.APIClient, list []janitor.Volume) error {
				return listVolumes(cmd.OutOrStdout(), list, time.Now())
			})
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
		Long: `Removes volumes that are kept from build to build, by the path that pipelines write or by the volume's name. One that a
container uses stays, and is an error. The next build that wants the path begins with an empty volume.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var config []string
			if envFile != "" {
				config = []string{envFile}
			}
			return withVolumes(cmd.Context(), config, func(client docker.APIClient, list []janitor.Volume) error {
				var errs []error
				for _, arg := range args {
					errs = append(errs, removeVolume(cmd.Context(), cmd.OutOrStdout(), client, list, arg))
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().StringVar(&envFile, "env-file", "", "a file with more of the daemon's variables")
	return cmd
}

// withVolumes calls f with the persistent volumes of the configured daemon.
func withVolumes(ctx context.Context, config []string, f func(docker.APIClient, []janitor.Volume) error) error {
	cfg, client, err := loadWithDocker(config)
	if err != nil {
		return err
	}
	defer client.Close()
	ledger, err := cache.Read(cfg.Runner.State)
	if err != nil {
		return failed(err)
	}
	list, err := janitor.Volumes(ctx, client, ledger)
	if err == nil {
		err = f(client, list)
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// listVolumes is a table of volumes.
func listVolumes(out io.Writer, list []janitor.Volume, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no volumes are kept from build to build")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "PATH\tSIZE\tLAST USE\tUSED BY\tVOLUME") // Flush tells
	for _, v := range list {
		size, used := "unknown", "unknown"
		if v.Size >= 0 {
			size = units.BytesSize(float64(v.Size))
		}
		if !v.Used.IsZero() {
			used = units.HumanDuration(max(now.Sub(v.Used), 0)) + " ago"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", v.Path, size, used, strings.Join(v.Users, ", "), v.Name)
	}
	return table.Flush()
}

// removeVolume removes the volume that has a path or a name.
func removeVolume(ctx context.Context, out io.Writer, client docker.APIClient, list []janitor.Volume, arg string) error {
	for _, v := range list {
		if v.Path != arg && v.Path != strings.TrimRight(arg, "/") && v.Name != arg {
			continue
		}
		if len(v.Users) > 0 {
			return fmt.Errorf("remove %s: the containers %s use it; wait for their build's end, or cancel it", arg, strings.Join(v.Users, ", "))
		}
		if err := client.VolumeRemove(ctx, v.Name, false); err != nil {
			return fmt.Errorf("remove %s: %w", arg, err)
		}
		_, err := fmt.Fprintf(out, "removed %s (%s)\n", v.Path, v.Name)
		return err
	}
	return fmt.Errorf("remove %s: no volume that is kept from build to build has that path or name; drone-runner-sysbox cache lists them", arg)
}
