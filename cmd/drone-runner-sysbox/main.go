// Command drone-runner-sysbox runs docker pipelines of Drone: as the runner of a Drone server
// (daemon, the default), or on a plain machine (exec). It also shows what a pipeline is compiled to
// (compile) and what is wrong with one (lint).
//
// The one rule to keep: commands only wire. What a flag means is decided here; what a pipeline
// means, never.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
