package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	docker "github.com/docker/docker/client"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/config"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// The pauses between two attempts to reach the server. Only a person can change a secret that it
// refuses.
const (
	firstPause   = 500 * time.Millisecond
	mostPause    = 2 * time.Second
	refusedPause = 30 * time.Second
)

func newDaemon() *cobra.Command {
	return &cobra.Command{
		Use:   "daemon [ENVFILE]",
		Short: "Runs the pipelines of a Drone server (the default command)",
		Long: `Runs the pipelines of a Drone server, as the environment says: DRONE_RPC_HOST and DRONE_RPC_SECRET are needed, and
docs/configuration.md lists the rest. ENVFILE holds KEY=VALUE lines; variables of the environment win over them.

SIGTERM or SIGINT drains: no new build begins, and those that run go on to their end. The same again, or the end of
DRONE_RUNNER_DRAIN_TIMEOUT, stops the builds, tells the server so, and removes what they left.

If it is killed, its next start with the same DRONE_RUNNER_STATE removes what the builds left, and tells the server how they ended.

Exit status: 0 after a drain in which every build ended by itself, 1 if builds had to be stopped or the daemon can't
go on (Docker doesn't answer, the address for /healthz is taken), 2 if the configuration is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, notices, err := loadConfig(args)
			log := newLog(cmd.ErrOrStderr(), cfg)
			for _, notice := range notices {
				log.Warn(notice)
			}
			if err != nil {
				return err
			}
			return daemon(cmd.Context(), cfg, log)
		},
	}
}

// loadConfig reads the daemon's configuration from the environment, and from the file that args may
// name. The notices are for the operator.
func loadConfig(args []string) (cfg *config.Config, notices []string, err error) {
	if len(args) > 0 {
		cfg, notices, err = config.LoadFile(args[0], os.Environ())
	} else {
		cfg, notices, err = config.Load(os.Environ())
	}
	if err != nil {
		err = fmt.Errorf("the configuration is wrong:\n%w", err)
	}
	return cfg, notices, err
}

// loadWithDocker is loadConfig for a command that somebody calls beside the daemon, with a client
// of the same Docker, which the caller closes. Nothing has been asked of it yet.
func loadWithDocker(args []string) (*config.Config, *docker.Client, error) {
	cfg, _, err := loadConfig(args)
	if err != nil {
		return nil, nil, err
	}
	client, err := docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation())
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of Docker from the environment (DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY): %w", err)
	}
	return cfg, client, nil
}

// newLog is the operator's log. cfg may be nil, if it couldn't be read.
func newLog(out io.Writer, cfg *config.Config) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	switch {
	case cfg == nil:
	case cfg.Log.Trace:
		log.SetLevel(logrus.TraceLevel)
	case cfg.Log.Debug:
		log.SetLevel(logrus.DebugLevel)
	}
	return log
}

// daemon lives until it is told to end and the last build has ended.
func daemon(ctx context.Context, cfg *config.Config, log *logrus.Logger) error {
	// Whoever reads the log may be gone before the builds are.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	poll, builds, release := runtime.Drain(ctx, signals, cfg.Runner.DrainTimeout, log)
	defer release()

	stages, err := journal.Open(poll, cfg.Runner.State, cfg.Runner.Name, log)
	if err != nil {
		return failed(err)
	}
	defer stages.Close()
	h := &home{}
	ready := server.NewReadiness("starting", map[string]string{"sandbox": string(cfg.Runner.Sandbox), "version": versionText()})
	metrics := server.NewMetrics(stages.Running)
	metrics.Daemon(func() bool { return h.down() == nil }, h.deaths)
	address, endServing, err := serve(ctx, cfg, log, metrics.Part(), ready.Part(func() error {
		if poll.Err() != nil {
			return draining(stages.Running())
		}
		return h.down()
	}))
	if err != nil {
		return failed(err)
	}
	defer endServing()
	log.WithFields(logrus.Fields{
		"version":  versionText(),
		"name":     cfg.Runner.Name,
		"capacity": cfg.Runner.Capacity,
		"platform": cfg.Platform.OS + "/" + cfg.Platform.Arch,
		"sandbox":  cfg.Runner.Sandbox,
		"http":     address,
	}).Info("starting")

	if err := h.open(poll, cfg, log, giveUp); errors.Is(err, errToldToEnd) {
		return nil
	} else if err != nil {
		return failed(err)
	}

	w := wiring{
		cfg: cfg, log: log, docker: h.docker, cells: h.cells, journal: stages, ledger: cache.Open(cfg.Runner.State, log), metrics: metrics,
	}
	if w.cells != nil {
		w.site = siteOf(w.cells.Shared())
	}
	if w.access, err = w.newAccess(poll); err == nil {
		w.budget, err = w.newBudget(poll)
	}
	if err == nil {
		err = w.showDisk(poll)
	}
	if err == nil {
		w.scopes, err = cache.OpenScopes(cfg.Runner.State)
	}
	if err != nil {
		if closeErr := h.close(); closeErr != nil {
			return failed(closeErr) // the reason of err
		}
		if poll.Err() != nil {
			return nil
		}
		return failed(err)
	}
	client := w.client()
	defer client.Close()
	docker := w.engine()
	engines, waitEngines := w.engines(docker)
	defer waitEngines()
	endCleaning := w.clean(poll, client, docker)
	defer endCleaning()
	endKeeping := w.keep(poll, docker)
	defer endKeeping()
	if reach(poll, client, cfg, log, ready.Answered) == nil {
		log.WithField("server", cfg.RPC.Address()).Info("polling for builds")
		poller := w.poller(client, engines, ready.Answered)
		poller.Wait = h.wait
		poller.Run(poll, builds)
	}
	endCleaning()
	endKeeping()
	stopped := builds.Err() != nil
	if err := h.close(); err != nil {
		return failed(err)
	}
	if stopped {
		return failed(errors.New("builds were stopped before they had ended"))
	}
	log.Info("every build has ended: bye")
	return nil
}

// draining is why a runner that was told to end isn't ready.
func draining(left int) error {
	builds := "builds are"
	if left == 1 {
		builds = "build is"
	}
	return fmt.Errorf("draining: no new builds are taken, and %d %s left", left, builds)
}

// serve starts the runner's own HTTP server; an address that can't be listened on is an error at
// once. It returns where it listens, and what stops it.
func serve(ctx context.Context, cfg *config.Config, log *logrus.Logger, parts ...server.Part) (address string, end func(), err error) {
	s, err := server.New(cfg.HTTP.Bind, parts...)
	if err != nil {
		return "", nil, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Run(serving); err != nil {
			log.WithError(err).Error("/healthz isn't served any more")
		}
	})
	return s.Addr().String(), func() {
		stop()
		served.Wait()
	}, nil
}

// reach asks the server whether it is there until it is: it may well start after its runners. heard
// is called with the result of each try. The error is the context's.
func reach(ctx context.Context, client *rpc.Client, cfg *config.Config, log logrus.FieldLogger, heard func(error)) error {
	pauses := pause.Growing(firstPause, mostPause)
	var reminder pause.Reminder
	for {
		err := client.Ping(ctx, cfg.Runner.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		heard(err)
		if err == nil {
			return nil
		}
		wait := pauses.NextBackOff()
		if errors.Is(err, rpc.ErrUnauthorized) {
			wait = refusedPause
		}
		if reminder.Next() {
			log.WithError(err).WithField("pause", wait.Round(time.Second/10).String()).Error("the drone server can't be reached")
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}
