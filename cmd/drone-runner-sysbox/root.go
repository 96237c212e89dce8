package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// newRoot is the command line. Without a subcommand it is the daemon, as Drone's own runners are,
// so that an image can be swapped for another without changing how it is called.
func newRoot() *cobra.Command {
	daemon := newDaemon()
	root := &cobra.Command{
		Use:   "drone-runner-sysbox",
		Short: "Runs Drone's docker pipelines",
		Long: `Runs Drone's docker pipelines: for a Drone server, or on a plain machine with Docker.

Without a command it is the daemon.

Exit status: 0 all is well, 1 a step failed or the daemon can't go on, 2 nothing was run because the file, the
call or the machine is wrong, 130 after Ctrl-C (128 and the number of any other signal).`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) == 1 && isFile(args[0]) {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return daemon.RunE(cmd, args)
		},
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (%s --help lists the flags)", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(daemon, newExec(), newCompile(), newLint(), newDoctor(), newPrune(), newCache(), newHealthcheck(), newLook(), newCellInit(), newVersion())
	return root
}

// unknownCommand names what was meant, if something is near.
func unknownCommand(cmd *cobra.Command, arg string) error {
	text := fmt.Sprintf("there is no command %q, nor a file of variables of that name", arg)
	if near := cmd.SuggestionsFor(arg); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return errors.New(text + " (drone-runner-sysbox --help lists the commands)")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
