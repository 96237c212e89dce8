package config

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// Load reads what it is given, not the process's environment, and doesn't write that; errors make
// no difference.
func TestProcessEnvironment(t *testing.T) {
	t.Setenv("DRONE_RUNNER_NAME", "of the process")
	t.Setenv("DRONE_RUNNER_CAPACITY", "7")
	t.Setenv("RUNNER_DRONE_RUNNER_MAX_PROCS", "7") // what envconfig would look for in Config.Runner
	t.Setenv("DRONE_RUNNER_CLONE_IMAGE", "")
	before := slices.Sorted(slices.Values(os.Environ()))

	cfg, _ := load(t, minimal("DRONE_RUNNER_NAME=given")...)
	if cfg.Runner.Name != "given" || cfg.Runner.Capacity != 2 || cfg.Runner.MaxProcs != 0 || cfg.Runner.CloneImage != "drone/git:latest" {
		t.Errorf("%+v", cfg.Runner)
	}
	if _, _, err := Load([]string{"DRONE_RUNNER_CAPACITY=lots", "DRONE_RUNNER_MAX_PROCS=1"}); err == nil {
		t.Error("Load succeeded without a host")
	}
	if after := slices.Sorted(slices.Values(os.Environ())); !slices.Equal(before, after) {
		t.Errorf("the environment was\n%q\nand is\n%q", before, after)
	}
}

func TestLoadAtTheSameTime(t *testing.T) {
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			name := fmt.Sprint("runner-", i)
			cfg, _, err := Load(minimal("DRONE_RUNNER_NAME=" + name))
			if err != nil || cfg.Runner.Name != name {
				t.Errorf("%s: %v, %v", name, cfg, err)
			}
		})
	}
	calls.Wait()
}
