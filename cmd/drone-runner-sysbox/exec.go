package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/drone/runner-go/client"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/console"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/local"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/reserved"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fairshare"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// defaultFile is what Drone calls a pipeline's file.
const defaultFile = ".drone.yml"

// localFlags are those of commands that take a file as exec does.
type localFlags struct {
	build             local.Build
	selection         local.Selection
	clone             bool
	cloneImage        string
	timeout           time.Duration
	networks, volumes []string
}

func (f *localFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.selection.Pipelines, "pipeline", nil, "pipeline to run, whatever its trigger says (repeatable; default: each whose trigger matches)")
	flags.StringSliceVar(&f.selection.Include, "include", nil, "step to run, without the others (repeatable)")
	flags.StringSliceVar(&f.selection.Exclude, "exclude", nil, "step to leave out (repeatable)")
	flags.BoolVar(&f.clone, "clone", false, "clone git's remote origin into an empty workspace, instead of using the current folder")
	flags.StringVar(&f.cloneImage, "clone-image", compiler.DefaultCloneImage, "image of the clone step")
	flags.DurationVar(&f.timeout, "timeout", time.Hour, "time that each pipeline may take")
	flags.StringSliceVar(&f.networks, "network", nil, "docker network that every step joins besides the pipeline's own (repeatable)")
	flags.StringSliceVar(&f.volumes, "volume", nil, "volume of every step, /path:/path/in/step[:ro] (repeatable)")
	registerBuild(flags, &f.build)
}

// registerBuild registers the flags that make up a build.
func registerBuild(flags *pflag.FlagSet, b *local.Build) {
	flags.StringVar(&b.Event, "event", "", "event of the build: "+strings.Join(local.Events, ", ")+" (default push, or what --ref says)")
	flags.StringVar(&b.Action, "action", "", "action of the event: opened, synchronize, …")
	flags.StringVar(&b.Branch, "branch", "", "branch of the build, for a pull request the one that it is for (default git's, or main)")
	flags.StringVar(&b.Ref, "ref", "", "git reference (default refs/heads/BRANCH, for a tag refs/tags/TAG)")
	flags.StringVar(&b.Commit, "commit", "", "commit (default git's HEAD)")
	flags.StringVar(&b.Repo, "repo", "", "repository as NAMESPACE/NAME (default that of git's remote origin, or local/FOLDER)")
	flags.StringVar(&b.Deploy, "deploy-to", "", "target of a promotion or rollback; --target is the same")
	flags.StringVar(&b.Cron, "cron", "", "name of the cron job")
	flags.StringVar(&b.Instance, "instance", "drone.local", "host name of the server, as when.instance sees it")
	flags.BoolVar(&b.Trusted, "trusted", false, "allow what a server allows trusted repositories alone")
	flags.StringArrayVar(&b.Env, "env", nil, "variable of the build, KEY=VALUE, or KEY alone to hand on this shell's; steps get it, and ${KEY} in the file is replaced (repeatable)")
	flags.StringArrayVar(&b.EnvFiles, "env-file", nil, "file of such variables, KEY=VALUE lines as in a .env file; --env wins (repeatable)")
	flags.StringArrayVar(&b.SecretFiles, "secret-file", nil, "file of secrets for from_secret, KEY=VALUE lines; put values with $ or # in single quotes (repeatable)")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "target" {
			name = "deploy-to"
		}
		return pflag.NormalizedName(name)
	})
}

func newExec() *cobra.Command {
	var flags localFlags
	cmd := &cobra.Command{
		Use:   "exec [FILE]",
		Short: "Runs pipelines of a file (.drone.yml) on this machine, without a server",
		Long: `Runs pipelines of a file (default .drone.yml; - is standard input) on this machine, without a server.

The current folder is the workspace: steps see its files as they are, and what they write stays there. The build is
made up from the flags and from what git knows of the folder. It is a push to git's branch unless the flags say
otherwise.

Without --pipeline every docker pipeline of the file runs whose trigger matches that build, one after the other, each
behind those that it depends on; one that depends on a failed one is skipped. A pipeline that is named by --pipeline
runs whatever its trigger says, and without those that it depends on.

Services and the clone step are not left out by --include and --exclude.

Docker is found as the docker command finds it: DOCKER_HOST and its kin, or /var/run/docker.sock.

What a call that was killed has left in Docker, the next one removes: both keep account in $XDG_STATE_HOME/drone-runner-sysbox
(~/.local/state by default).

Exit status: 0 all pipelines passed, 1 a step failed, 2 nothing was run (the file, the call or Docker is wrong),
130 after Ctrl-C, which stops the steps and removes what they left. A second Ctrl-C leaves 10 seconds for that.`,
		Example: `  drone-runner-sysbox exec
  drone-runner-sysbox exec --include test --env GOFLAGS=-race
  drone-runner-sysbox exec --pipeline deploy --event promote --deploy-to staging --secret-file .secrets ci/.drone.yml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultFile
			if len(args) > 0 {
				file = args[0]
			}
			return flags.exec(cmd, file)
		},
	}
	flags.register(cmd)
	return cmd
}

// exec plans, runs, and turns the outcome into an exit code.
func (f *localFlags) exec(cmd *cobra.Command, file string) error {
	signal.Ignore(syscall.SIGPIPE)
	ctx, hurry, release := interruptible(cmd.Context())
	defer release()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	plan, d, err := f.plan(ctx, cmd, file)
	if err == nil && !plan.Runnable() {
		err = errors.New("no pipeline is to be run")
		for _, s := range plan.Stages {
			err = fmt.Errorf("%w\n  %s: %s", err, s.Pipeline.Name, s.Skip)
		}
	}
	if err != nil {
		return orSignal(ctx, err)
	}
	docker, err := engine.Connect(ctx)
	if err != nil {
		return orSignal(ctx, err)
	}
	defer docker.Close()

	log := warnings(cmd)
	out := cmd.OutOrStdout()
	stdout, isFile := out.(*os.File)
	terminal := console.New(&pipe{out: out, end: end}, isFile && console.Colors(stdout))
	account := openAccount(log)
	builds := engine.New(docker, engine.Options{
		RunnerName: account.owner(),
		StreamPull: true,
		Pids:       fairshare.Pids,
		Guard:      &engine.GuardOptions{Dir: socketsDir(), Limits: guard.Limits{Pids: fairshare.Pids}, Reserved: reserved.Addresses(proxies())},
		Log:        log,
	})
	account.sweep(ctx, builds)
	executor := &runtime.Executor{
		Engine:      account.watch(hasty{Engine: builds, hurry: hurry}),
		ServiceWait: runtime.DefaultServiceWait,
		Log:         log,
	}
	passed, err := plan.Run(ctx, d, executor, terminal, f.timeout)
	terminal.Total()
	switch s := bySignal(ctx); {
	case passed && err == nil:
		return nil
	case s != nil:
		return told(128 + int(s.signal))
	case err != nil:
		return failed(err)
	}
	return told(exitFailed)
}

// warnings is a log for what a developer should know of the machine.
func warnings(cmd *cobra.Command) *logrus.Logger {
	log := newLog(cmd.ErrOrStderr(), nil)
	log.SetLevel(logrus.WarnLevel)
	return log
}

// orSignal is the error, or the signal that caused it.
func orSignal(ctx context.Context, err error) error {
	if s := bySignal(ctx); s != nil {
		return s
	}
	return err
}

// plan reads the file and compiles what is to be run, and prints the warnings.
func (f *localFlags) plan(ctx context.Context, cmd *cobra.Command, file string) (*local.Plan, *client.Context, error) {
	data, name, err := readFile(cmd.InOrStdin(), file)
	if err != nil {
		return nil, nil, err
	}
	if pipeline.Converted(name) {
		return nil, nil, fmt.Errorf("%s isn't YAML, but what Drone's server converts to YAML: convert it first, as in: drone starlark convert --stdout | drone-runner-sysbox exec -", name)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, nil, fmt.Errorf("find out the current folder, which is the workspace: %w", err)
	}
	if f.timeout <= 0 {
		return nil, nil, fmt.Errorf("--timeout: %s leaves no time: write a duration such as 90s, 30m or 2h", f.timeout)
	}
	f.build.Machine, f.build.Version = hostname(), versionText()
	d, err := f.build.Context(ctx, dir, data, f.timeout)
	if err != nil {
		return nil, nil, err
	}
	volumes, err := f.operatorVolumes(dir)
	if err != nil {
		return nil, nil, err
	}
	loader := &pipeline.Loader{
		Compiler: &compiler.Compiler{
			CloneImage:     f.cloneImage,
			Networks:       f.networks,
			NetworkOptions: networkOptions(nil, warnings(cmd)),
			Volumes:        volumes,
			DockerPlugins:  compiler.DefaultDockerPlugins(),
			Proxy:          proxy(),
			RunnerName:     hostname(),
		},
		FileName: name,
		NoClone:  !f.clone,
	}
	if f.clone {
		if d.Repo.HTTPURL == "" {
			return nil, nil, errors.New("--clone: git's remote origin isn't set in the current folder: there is nothing to clone from")
		}
	} else {
		d.Netrc = nil
		loader.Compiler.WorkspaceSource = dir
	}
	p, err := local.NewPlan(ctx, loader, d, f.selection)
	if p != nil {
		for _, w := range p.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), w)
		}
	}
	return p, d, err
}

// operatorVolumes reads --volume; a relative source is a folder below the current one.
func (f *localFlags) operatorVolumes(dir string) ([]compiler.OperatorVolume, error) {
	var out []compiler.OperatorVolume
	var errs []error
	for _, text := range f.volumes {
		source, rest, _ := strings.Cut(text, ":")
		if source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") {
			text = filepath.Join(dir, source) + ":" + rest
		}
		var v config.Volume
		if err := v.UnmarshalText([]byte(text)); err != nil {
			errs = append(errs, fmt.Errorf("--volume: %w", err))
			continue
		}
		out = append(out, compiler.OperatorVolume(v))
	}
	return out, errors.Join(errs...)
}

// readFile reads a pipeline's file, or standard input for "-", and tells what to call it.
func readFile(stdin io.Reader, path string) (data []byte, name string, err error) {
	if path == "-" {
		if data, err = io.ReadAll(stdin); err != nil {
			return nil, "", fmt.Errorf("read standard input: %w", err)
		}
		return data, "<stdin>", nil
	}
	if data, err = os.ReadFile(path); err != nil {
		return nil, "", fmt.Errorf("read the pipeline's file: %w", err)
	}
	return data, path, nil
}
