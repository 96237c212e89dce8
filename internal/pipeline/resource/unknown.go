package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Keys that mean something to other runners or to older versions of Drone, and what to write here.
// The kubernetes runner's are those of https://docs.drone.io/pipeline/kubernetes/syntax/.
var (
	foreignPipeline = map[string]string{
		"metadata":             kubernetesKey + "remove it",
		"service_account_name": kubernetesKey + "remove it",
		"node_selector":        kubernetesKey + "write node, and give the runner those labels in DRONE_RUNNER_LABELS",
		"node_name":            kubernetesKey + "write node, and give the runner those labels in DRONE_RUNNER_LABELS",
		"tolerations":          kubernetesKey + "write node, and give the runner those labels in DRONE_RUNNER_LABELS",
		"host_aliases":         kubernetesKey + "write extra_hosts in the step",
		"dns_config":           kubernetesKey + "write dns and dns_search in the step",
		"resources":            kubernetesKey + "write mem_limit in the step",
		"pool":                 "the key belongs to the vm and aws runners and is ignored here: remove it",
		"server":               "the key belongs to the ssh and digitalocean runners and is ignored here: remove it",
		"token":                "the key belongs to the digitalocean runner and is ignored here: remove it",
		"pipeline": "the key is that of Drone 0.8 and is ignored here: write its steps as a list " +
			"under steps",
		"branches": "the key is that of Drone 0.8 and is ignored here: write trigger: {branch: …}",
		"matrix": "the key is that of Drone 0.8 and is ignored here: write one pipeline for each " +
			"combination",
		"when": "a pipeline has no when, and the key is ignored here: write trigger",
	}
	foreignStep = map[string]string{
		"resources": kubernetesKey + "write mem_limit for resources.limits.memory; CPU limits are the " +
			"operator's (DRONE_CPU_QUOTA)",
		"ports": "the key is ignored here: every port of a step or service is open to the steps " +
			"beside it, at its name",
		"pull_policy": "the key is ignored here: write pull",
		"secrets": "the key is that of Drone 0.8 and is ignored here: write environment: {NAME: " +
			"{from_secret: NAME}}",
		"group": "the key is that of Drone 0.8 and is ignored here: write depends_on for steps that " +
			"run at once",
		"links": "the key is ignored here: steps and services find each other by name without it",
		"build": "the key is ignored here: build the image in a step of its own",
		"cap_add": "the key is ignored here: no step gets capabilities; Docker works in a step that " +
			"mounts /var/run/docker.sock",
		"security_opt":   "the key is ignored here: security profiles are the runner's",
		"restart":        "the key is ignored here: a container runs once",
		"hostname":       "the key is ignored here: the other steps reach this one at its name",
		"container_name": "the key is ignored here: the other steps reach this one at its name",
		"ulimits":        "the key is ignored here: write ulimit as the first of the commands",
		"tmpfs":          "the key is ignored here: declare a volume with temp: {medium: memory}, and mount it",
		"networks":       "the key is ignored here: extra networks are the operator's (DRONE_RUNNER_NETWORKS)",
		"env_file": "the key is ignored here: write the variables under environment, or read the file " +
			"in the commands",
		"trigger": "a step has no trigger, and the key is ignored here: write when",
		"timeout": "the key is ignored here: the time limit is the repository's; write timeout 10m " +
			"COMMAND in the commands",
		"labels":   "the key is ignored here: labels of containers are the runner's",
		"platform": "a step has no platform, and the key is ignored here: write it at the pipeline",
		"workspace": "a step has no workspace, and the key is ignored here: write it at the pipeline, or " +
			"working_dir here",
		"image_pull_secret":  "the key is ignored here: write image_pull_secrets at the pipeline",
		"image_pull_secrets": "a step has no image_pull_secrets, and the key is ignored here: write it at the pipeline",
	}
	foreignVolume = map[string]string{
		"config_map": kubernetesKey + "write the file in a step",
		"secret": kubernetesKey + "write environment: {NAME: {from_secret: NAME}} in the step, and the file " +
			"in its commands",
		"downward_api": kubernetesKey + "the step's environment has the build's facts",
		"csi":          kubernetesKey + "write host: {path: /cache/NAME}, which is kept between builds",
		"empty_dir":    "the key is ignored here: write temp: {}",
		"emptyDir":     "the key is ignored here: write temp: {}",
		"path": "the key is ignored here: a volume says where its content is (temp: {} or host: {path: " +
			"…}), and the path in a step stands in the step's volumes",
	}
	foreignMount = map[string]string{
		"read_only": kubernetesKey + "the mount can be written to",
		"sub_path":  kubernetesKey + "the whole volume is mounted",
	}
	foreignConditions = map[string]string{
		"environment": "the key is that of Drone 0.8 and is ignored here: write target",
		"tag":         "the key is ignored here: write ref: refs/tags/…",
		"tags":        "the key is ignored here: write ref: refs/tags/…",
		"matrix":      "the key is that of Drone 0.8 and is ignored here: write one pipeline for each combination",
		"local":       "the key is that of Drone 0.8 and is ignored here: remove it",
		"platform":    "the key is that of Drone 0.8 and is ignored here: write platform at the pipeline",
		"include": "the key is ignored here: include and exclude stand inside one condition, as in branch: " +
			"{include: […]}",
		"exclude": "the key is ignored here: include and exclude stand inside one condition, as in branch: " +
			"{exclude: […]}",
	}
)

const kubernetesKey = "the key belongs to the kubernetes runner and is ignored here: "

// unknown warns of a key that nothing reads, unless it's there for its anchors alone or is marked
// as somebody else's (x-, . or _ in front).
func (d *decoder) unknown(f field, key string, known schema, foreign map[string]string) {
	if strings.HasPrefix(f.key, "x-") || strings.HasPrefix(f.key, ".") || strings.HasPrefix(f.key, "_") {
		return
	}
	if message, ok := foreign[f.key]; ok {
		d.report(Warning, key, "%s", message)
		return
	}
	if f.value.held {
		return
	}
	if d.found.Full(Warning) {
		d.report(Warning, key, "unknown key, ignored")
		return
	}
	d.report(Warning, key, "unknown key, ignored%s", didYouMean(f.key, slices.Sorted(maps.Keys(known))))
}

// didYouMean is " (did you mean X?)", or "" when no candidate is near: the same but for case, "-"
// and "_", with two letters swapped, or with at most a third of it spelled differently.
func didYouMean(word string, candidates []string) string {
	if best := nearest(word, candidates); best != "" {
		return fmt.Sprintf(" (did you mean %s?)", best)
	}
	return ""
}

// nearest is the candidate most like the word, or "".
func nearest(word string, candidates []string) string {
	fold := strings.NewReplacer("-", "", "_", "", " ", "")
	if len(word) > 64 {
		return ""
	}
	folded := fold.Replace(strings.ToLower(word))
	limit := max(2, len(folded)/3)
	if len(folded) < 4 {
		limit = 1
	}
	best, distance := "", limit+1
	for _, c := range candidates {
		if n := levenshtein.Distance(folded, fold.Replace(strings.ToLower(c)), nil); n < distance {
			best, distance = c, n
		}
	}
	return best
}
