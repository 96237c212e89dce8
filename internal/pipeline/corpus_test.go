package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/linter"
)

// refused are the golden files of the compiler that hold something which the linter refuses: the
// keys, for untrusted repositories and for trusted ones. Drone's runner refuses the former as well.
var refused = map[string]struct{ untrusted, trusted []string }{
	"dind":               {untrusted: []string{"privileged", "volumes[4].path", "privileged", "volumes[4].host.path"}},
	"dind_memory":        {untrusted: []string{"volumes[0].temp.medium"}},
	"limits":             {untrusted: []string{"shm_size"}},
	"limits_negative":    {untrusted: []string{"shm_size"}},
	"limits_operator":    {untrusted: []string{"shm_size"}},
	"network":            {untrusted: []string{"dns", "dns_search", "extra_hosts", "network_mode", "network_mode", "network_mode"}},
	"networks_operator":  {untrusted: []string{"network_mode", "network_mode", "network_mode"}},
	"plugins_docker":     {untrusted: []string{"volumes[0].host.path"}},
	"privileged":         {untrusted: []string{"privileged"}},
	"volumes_absent":     {untrusted: []string{"volumes[3].host.path", "volumes[6].host.path"}},
	"volumes_host_paths": {untrusted: []string{"volumes[0].host.path", "volumes[1].host.path", "volumes[2].host.path", "volumes[3].host.path"}},
	"volumes_fork":       {untrusted: []string{"volumes[0].host.path"}},
	"volumes_shared":     {untrusted: []string{"volumes[0].host.path", "volumes[1].host.path"}},
	"volumes_persistent": {untrusted: []string{"volumes[0].host.path", "volumes[1].host.path", "volumes[2].host.path"}},
	"volumes_socket":     {untrusted: []string{"privileged", "volumes[0].host.path", "volumes[1].host.path", "volumes[2].host.path", "volumes[3].host.path"}},
	"volumes_socket_dir": {untrusted: []string{"volumes[0].host.path", "volumes[1].host.path"}},
	"volumes_temp":       {untrusted: []string{"volumes[1].temp.medium", "volumes[2].temp.medium"}},
	"when_never_broken":  {untrusted: []string{"network_mode", "devices", "volumes[0].host.path"}},
}

// TestGoldenFilesPassLint holds that what compiles is what the linter lets through: every golden
// file of the compiler, in the linter's modes.
func TestGoldenFilesPassLint(t *testing.T) {
	files, err := filepath.Glob("../../compiler/testdata/*.yml")
	if err != nil || len(files) < 70 {
		t.Fatalf("there are %d golden files, which are at least 70 (%v)", len(files), err)
	}
	unused := map[string]bool{}
	for name := range refused {
		unused[name] = true
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		delete(unused, name)
		for _, trusted := range []bool{false, true} {
			want := refused[name].untrusted
			if trusted {
				want = refused[name].trusted
			}
			if got := errorKeys(t, file, trusted); !slices.Equal(got, want) {
				t.Errorf("%s, trusted %t: (-want +got):\n%s", name, trusted, cmp.Diff(want, got))
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("there are no files of these names: %v", unused)
	}
}

// errorKeys are the keys of the errors of a file, for a push to a branch.
func errorKeys(t *testing.T, file string, trusted bool) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := details(string(data))
	if strings.HasSuffix(file, "_tag.yml") {
		d.Build.Event, d.Build.Ref = "tag", "refs/tags/v1.2.3"
	}
	data, err = resource.Substitute(data, Substitutions(d, time.Unix(1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	f, found := resource.Parse(filepath.Base(file), data)
	for _, p := range f.Pipelines {
		args := compiler.Args{Pipeline: p, Build: d.Build, Stage: d.Stage, Repo: d.Repo, System: d.System}
		found = append(found, linter.Lint(f.Name, p, linter.Options{
			Trusted: trusted, HostPaths: []string{"/srv/data", "/opt/"}, DockerPlugins: compiler.DefaultDockerPlugins(), Absent: args.NeverRuns,
		})...)
	}
	var keys []string
	for _, finding := range found.Errors() {
		keys = append(keys, finding.Key)
	}
	return keys
}
