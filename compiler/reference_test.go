package compiler

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// schemaKeys are the keys of Drone's docker pipeline
// (https://docs.drone.io/pipeline/docker/syntax/), by what they stand in.
var schemaKeys = map[string]string{
	"pipeline": `clone clone.depth clone.disable clone.retries clone.skip_verify clone.trace concurrency concurrency.limit depends_on environment image_pull_secrets kind name
		node platform platform.arch platform.os platform.variant platform.version services steps trigger trigger.branch trigger.event type version volumes workspace
		workspace.base workspace.path`,
	"step": `command commands depends_on detach devices devices.name devices.path dns dns_search entrypoint environment extra_hosts failure image mem_limit memswap_limit name
		network_mode privileged pull settings shell shm_size user volumes volumes.name volumes.path when when.action when.branch when.branch.exclude when.branch.include
		when.cron when.event when.instance when.paths when.ref when.repo when.status when.target working_dir`,
	"volume": `host host.path name temp temp.medium temp.size_limit`,
}

// TestReference holds that the golden files are a table of what Drone's runner does: each says what
// that makes of it, and why this runner does otherwise where it does, and every key of the schema
// is in one of them.
func TestReference(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]map[string]bool{}
	for place, keys := range schemaKeys {
		missing[place] = map[string]bool{}
		for _, key := range strings.Fields(keys) {
			missing[place][key] = true
		}
	}
	items := regexp.MustCompile(`\[[0-9]+\]`)
	seen := func(place string, keys map[string]resource.Position) {
		for key := range keys {
			delete(missing[place], items.ReplaceAllString(key, ""))
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^# Reference: \S`).Match(data) {
			t.Errorf("%s doesn't say what Drone's runner does: write a comment that begins with \"# Reference: \"", file)
		}
		f, _ := resource.Parse(file, data)
		for _, p := range f.Pipelines {
			seen("pipeline", p.Keys)
			for _, s := range slices.Concat(p.Services, p.Steps) {
				if s != nil {
					seen("step", s.Keys)
				}
			}
			for _, v := range p.Volumes {
				seen("volume", v.Keys)
			}
		}
	}
	for place, keys := range missing {
		if diff := cmp.Diff([]string(nil), slices.Sorted(maps.Keys(keys))); diff != "" {
			t.Errorf("keys of a %s that no golden file has: %s", place, diff)
		}
	}
}
