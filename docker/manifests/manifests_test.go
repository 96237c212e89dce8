// Package manifests_test loads the deployment files of docker/ with the types of those who read them:
// Compose and Kubernetes. It is a module of its own, so that the program's go.mod stays free of theirs.
package manifests_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigs "sigs.k8s.io/yaml"
)

// compose loads compose.yml as docker compose does, schema included, with the example's .env filled in.
func compose(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose.yml"},
		cli.WithEnv([]string{"DRONE_RPC_SECRET=secret", "DRONE_ADMIN=octocat"}),
		cli.WithEnvFiles("../.env.example"), cli.WithDotEnv, cli.WithProfiles(profiles), cli.WithLoadOptions())
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeKeepsThePromises(t *testing.T) {
	project := compose(t, "server")
	runners := 0
	for name, s := range project.Services {
		if s.Privileged || len(s.CapAdd) > 0 || len(s.Devices) > 0 || len(s.SecurityOpt) > 0 || s.Pid != "" || s.Ipc != "" || s.NetworkMode == "host" {
			t.Errorf("%s asks for privilege", name)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeVolume {
				t.Errorf("%s mounts %s %s: nothing of the host belongs in there", name, v.Type, v.Source)
			}
		}
		if !strings.HasPrefix(name, "runner") {
			continue
		}
		runners++
		if s.Runtime != "sysbox-runc" {
			t.Errorf("%s runs in %q", name, s.Runtime)
		}
		if got := targets(s); !slices.Equal(got, []string{"/var/lib/docker", "/var/lib/drone-runner"}) {
			t.Errorf("%s keeps %q", name, got)
		}
		if s.StopGracePeriod == nil {
			t.Errorf("%s has no time to drain", name)
		}
	}
	if runners != 2 {
		t.Errorf("%d runners, want 2", runners)
	}
	a, b := project.Services["runner-1"], project.Services["runner-2"]
	for _, v := range a.Volumes {
		for _, w := range b.Volumes {
			if v.Source == w.Source {
				t.Errorf("both runners use the volume %s", v.Source)
			}
		}
	}
}

func TestComposeServerProfiles(t *testing.T) {
	for profile, runtime := range map[string]string{"server": "", "server-in-sysbox": "sysbox-runc"} {
		project := compose(t, profile)
		s, ok := project.Services[profile]
		if !ok || len(project.Services) != 3 {
			t.Fatalf("profile %s starts %v", profile, project.ServiceNames())
		}
		if s.Runtime != runtime {
			t.Errorf("%s runs in %q, want %q", profile, s.Runtime, runtime)
		}
		if net := s.Networks["default"]; net == nil || !slices.Contains(net.Aliases, "drone-server") {
			t.Errorf("%s can't be found by the runners as drone-server", profile)
		}
	}
}

// Every variable that compose.yml reads is in the example, with a line above it that explains it.
func TestEnvExampleIsComplete(t *testing.T) {
	raw, err := os.ReadFile("../compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(raw), "${")[1:] {
		name := part[:strings.IndexAny(part, ":}")]
		if !strings.Contains(string(example), "\n"+name+"=") && !strings.Contains(string(example), "\n#"+name+"=") {
			t.Errorf(".env.example doesn't have %s", name)
		}
	}
}

func targets(s types.ServiceConfig) []string {
	var out []string
	for _, v := range s.Volumes {
		out = append(out, v.Target)
	}
	slices.Sort(out)
	return out
}

// The manifests decode into Kubernetes' own types, and have no field that those don't.
func TestKubernetesManifests(t *testing.T) {
	raw, err := os.ReadFile("../kubernetes/runner.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(raw)))
	defer documents.Close()
	objects := map[string]any{"ConfigMap": &corev1.ConfigMap{}, "Service": &corev1.Service{}, "StatefulSet": &appsv1.StatefulSet{}, "PodDisruptionBudget": &policyv1.PodDisruptionBudget{}}
	seen := 0
	for buf := make([]byte, 1<<20); ; seen++ {
		n, err := documents.Read(buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind struct{ Kind, APIVersion string }
		if err := sigs.Unmarshal(buf[:n], &kind); err != nil {
			t.Fatal(err)
		}
		object, ok := objects[kind.Kind]
		if !ok {
			t.Fatalf("a %s of %s is not expected here", kind.Kind, kind.APIVersion)
		}
		if err := sigs.UnmarshalStrict(buf[:n], object); err != nil {
			t.Errorf("%s: %v", kind.Kind, err)
		}
	}
	if seen != len(objects) {
		t.Errorf("%d documents, want %d", seen, len(objects))
	}

	set := objects["StatefulSet"].(*appsv1.StatefulSet)
	pod := set.Spec.Template.Spec
	if pod.RuntimeClassName == nil || *pod.RuntimeClassName != "sysbox-runc" {
		t.Error("the pod doesn't run in Sysbox")
	}
	if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds < 3600 {
		t.Error("the pod has no time to drain")
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 {
		t.Error("the pod takes something of its host")
	}
	c := pod.Containers[0]
	if c.SecurityContext != nil {
		t.Error("the container asks for privilege, or gives some up that Sysbox needs")
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil {
		t.Error("a probe is missing")
	}
	claims := map[string]bool{}
	for _, v := range set.Spec.VolumeClaimTemplates {
		claims[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		if !claims[m.Name] {
			t.Errorf("no claim for the mount of %s", m.Name)
		}
	}
	for selector, labels := range map[string]map[string]string{
		"the StatefulSet":         set.Spec.Selector.MatchLabels,
		"the Service":             objects["Service"].(*corev1.Service).Spec.Selector,
		"the PodDisruptionBudget": objects["PodDisruptionBudget"].(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels,
	} {
		for k, v := range labels {
			if set.Spec.Template.Labels[k] != v {
				t.Errorf("%s doesn't select the pods: %s=%s", selector, k, v)
			}
		}
	}
}
