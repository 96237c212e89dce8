package main

import (
	"encoding/json"
	"fmt"
	"os"

	docker "github.com/docker/docker/client"
	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/doctor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

func newDoctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [ENVFILE]",
		Short: "Checks the system container, its Docker daemon, the network and the server",
		Long: `Checks everything that the daemon needs, with the same configuration: the system container and each signal that proves it, the
Docker daemon, its storage, disk and limits, DNS and the way to the server from inside a container, the server, the secret and
the clock. Each failure comes with what to do about it.

Run it inside the runner's container: docker exec RUNNER drone-runner-sysbox doctor

Exit status: 0 if nothing failed, 1 if something did, 2 if the configuration is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, client, err := loadWithDocker(args)
			if err != nil {
				return err
			}
			defer client.Close()
			program, err := os.Executable()
			if err != nil {
				return failed(err)
			}
			others := map[string]docker.APIClient{}
			running, err := cell.ListRunning(runRoot)
			if err != nil {
				return failed(err)
			}
			for _, r := range running {
				if r.Name == cell.SharedName {
					continue // the one at the usual socket
				}
				c, err := docker.NewClientWithOpts(docker.WithHost("unix://"+r.Socket), docker.WithAPIVersionNegotiation())
				if err != nil {
					return failed(fmt.Errorf("make a client of the cell %s: %w", r.Name, err))
				}
				defer c.Close()
				others[r.Name] = c
			}
			checks := doctor.Doctor{
				Cells:      others,
				Sandbox:    cfg.Runner.Sandbox,
				Docker:     client,
				Host:       client.DaemonHost(),
				Server:     cfg.RPC.Address(),
				Secret:     string(cfg.RPC.Secret),
				SkipVerify: cfg.RPC.SkipVerify,
				Program:    program,
			}.Examine(cmd.Context())
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				out.SetEscapeHTML(false)
				err = out.Encode(checks)
			} else {
				err = doctor.Print(cmd.OutOrStdout(), checks)
			}
			if err != nil {
				return failed(err)
			}
			if len(syscont.Failed(checks)) > 0 {
				return told(exitFailed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the checks as JSON")
	return cmd
}

// newLook is what doctor runs in a container: not for people.
func newLook() *cobra.Command {
	return &cobra.Command{
		Use:    "look HOST:PORT",
		Short:  "Prints as JSON how the network looks from here",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(doctor.Look(cmd.Context(), args[0]))
		},
	}
}
