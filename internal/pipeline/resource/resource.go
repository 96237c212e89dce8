// Package resource is the YAML schema of Drone's docker pipeline: it turns the bytes of a
// .drone.yml into typed pipelines that remember where each key was written.
//
// The one rule to keep: parsing never fails silently. A key is honoured, or a Finding names it.
// What a value may *be* is decided here (a list where a list belongs); what a pipeline may *ask
// for* is decided in package linter.
package resource

import (
	"github.com/drone/runner-go/manifest"
)

// Names of the document kind and type that this runner executes
// (https://docs.drone.io/pipeline/docker/syntax/).
const (
	KindPipeline = "pipeline"
	TypeDocker   = "docker"
)

// serverKinds are the kinds of documents that Drone's server and its runners read.
var serverKinds = []string{KindPipeline, manifest.KindSecret, manifest.KindSignature, "cron", "template"}

// runnerTypes are the types of pipelines that Drone's runners take.
var runnerTypes = []string{TypeDocker, "kubernetes", "exec", "ssh", "digitalocean", "macstadium", "vm", "aws"}

type (
	// File is a parsed .drone.yml: every document of it, in order.
	File struct {
		// Name is the path or label that findings carry.
		Name string
		// Pipelines are the docker pipelines (type docker, or no type).
		Pipelines []*Pipeline
		// Secrets are the documents of kind secret: encrypted data, or a pointer into an external
		// store.
		Secrets []*manifest.Secret
		// Others are documents that some other runner or the server reads: kubernetes, vm, ssh and
		// exec pipelines, signatures, templates.
		Others []Document
	}

	// Document is the identity of a document that is not ours to run.
	Document struct {
		Kind, Type, Name string
		Position         Position
	}

	// Position is a place in the file, counted from 1. The zero value means the place isn't known.
	Position struct {
		Line   int `json:"line,omitempty"`
		Column int `json:"column,omitempty"`
	}

	// Pipeline is one docker pipeline.
	Pipeline struct {
		Version     string
		Kind        string
		Type        string
		Name        string
		DependsOn   []string
		Clone       manifest.Clone
		Concurrency manifest.Concurrency
		Node        map[string]string
		Platform    manifest.Platform
		Trigger     manifest.Conditions
		Environment map[string]*manifest.Variable
		Services    []*Step
		Steps       []*Step
		Volumes     []*Volume
		PullSecrets []string
		Workspace   Workspace
		// Incomplete is set where something couldn't be read, with an Error among the findings:
		// steps may be missing.
		Incomplete bool

		Position Position
		// Keys holds the place of every key of the pipeline, by its path ("workspace.base"); see
		// Place.
		Keys map[string]Position
	}

	// Workspace is where the steps find the sources: the folder Path below Base, the place of the
	// shared volume. Both may be empty.
	Workspace struct {
		Base string
		Path string
	}

	// Step is one entry of steps or services. A nil entry of the YAML list stays nil here, for the
	// linter to name.
	Step struct {
		Name        string
		Image       string
		Pull        string // "", "always", "if-not-exists" or "never", lower case
		Command     []string
		Commands    []string
		Entrypoint  []string
		Environment map[string]*manifest.Variable
		Settings    map[string]*manifest.Parameter
		DependsOn   []string
		Detach      bool
		Devices     []Device
		DNS         []string
		DNSSearch   []string
		ExtraHosts  []string
		Failure     string // "", "ignore", "fast", "fast-fail", "fail-fast", as written
		MemLimit    manifest.BytesSize
		MemSwap     manifest.BytesSize
		Network     string // network_mode
		Privileged  bool
		Shell       string
		ShmSize     manifest.BytesSize
		User        string
		Volumes     []VolumeMount
		When        manifest.Conditions
		WorkingDir  string

		Position Position
		// Keys holds the place of every key of the step, by its path ("volumes[0].path"); see
		// Place.
		Keys map[string]Position
	}

	// VolumeMount puts a declared volume into a step.
	VolumeMount struct {
		Name string
		Path string
	}

	// Device is a device of the host that a step asks for. The linter refuses every one of them.
	Device struct {
		Name string
		Path string
	}

	// Volume is an entry of the pipeline's volumes. Exactly one of Temp and Host is set; neither
	// means that the YAML named neither, which the linter reports.
	Volume struct {
		Name string
		Temp *TempVolume
		Host *HostVolume
		// Claim is the name of a Kubernetes claim volume, which only the kubernetes runner knows.
		// It is read as a temp volume, so that the steps that mount it run, and kept so that the
		// linter can say what to write.
		Claim    string
		Position Position
		Keys     map[string]Position
	}

	// TempVolume is removed with the stage. Medium "memory" makes it a tmpfs of SizeLimit bytes
	// (0: no limit).
	TempVolume struct {
		Medium    string
		SizeLimit manifest.BytesSize
	}

	// HostVolume is a path of the machine, which here is never the host's: see the table "Volumes"
	// in the documentation.
	HostVolume struct {
		Path string
	}
)
