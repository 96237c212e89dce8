//go:build !unit

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// BenchmarkTenStepBuild takes a build of ten steps of `true` from the server's queue to its end,
// everything that a runner does included, against the same ten containers by bare calls to the
// daemon right after it.
func BenchmarkTenStepBuild(b *testing.B) {
	r := newRunner(b)
	yaml := "kind: pipeline\nclone: {disable: true}\nsteps:\n"
	for i := range 10 {
		yaml += fmt.Sprintf("- {name: step%d, image: IMAGE, pull: never, commands: ['true']}\n", i)
	}
	var ours, bare time.Duration
	for b.Loop() {
		began := time.Now()
		result := r.build(b, rpctest.Build{YAML: yaml})
		ours += time.Since(began)
		if got := result.Stages[0].Status; got != "success" {
			b.Fatalf("the build is %s", got)
		}
		began = time.Now()
		bareContainers(b, r.image, 10)
		bare += time.Since(began)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Seconds()/float64(b.N), "build-s/op")
	b.ReportMetric(bare.Seconds()/float64(b.N), "bare-s/op")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "build/bare")
}

// BenchmarkLongLogBuild runs a step that prints 200,000 lines, 50 MB, through the whole runner, and
// tells the runner's own memory at its highest.
func BenchmarkLongLogBuild(b *testing.B) {
	r := newRunner(b)
	const yaml = `
kind: pipeline
clone: {disable: true}
steps:
- name: flood
  image: IMAGE
  pull: never
  commands:
  - pad=$(printf '%0230d' 0)
  - awk -v pad=$pad 'BEGIN{for(i=1;i<=200000;i++) printf "%018d %s\n", i, pad}'
`
	b.SetBytes(50_000_000)
	for b.Loop() {
		if got := r.build(b, rpctest.Build{YAML: yaml}).Stages[0].Status; got != "success" {
			b.Fatalf("the build is %s", got)
		}
	}
	b.ReportMetric(peak(b, r.cmd.Process.Pid), "peak-MB")
}

// BenchmarkServices takes builds of one and of five services and a step of `true` from the server's
// queue to their ends, in turns.
func BenchmarkServices(b *testing.B) {
	r := newRunner(b)
	build := func(services int) time.Duration {
		yaml := "kind: pipeline\nclone: {disable: true}\nservices:\n"
		for i := range services {
			yaml += fmt.Sprintf("- {name: service%d, image: IMAGE, pull: never, commands: [sleep 1000]}\n", i)
		}
		yaml += "steps:\n- {name: step, image: IMAGE, pull: never, commands: ['true']}\n"
		began := time.Now()
		if got := r.build(b, rpctest.Build{YAML: yaml}).Stages[0].Status; got != "success" {
			b.Fatalf("the build is %s", got)
		}
		return time.Since(began)
	}
	var one, five time.Duration
	for b.Loop() {
		one += build(1)
		five += build(5)
	}
	r.drain(b) // a build is reported before what it made is removed
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(one.Seconds()/float64(b.N), "one-s/op")
	b.ReportMetric(five.Seconds()/float64(b.N), "five-s/op")
	b.ReportMetric(five.Seconds()/one.Seconds(), "five/one")
}

// peak is the most memory that a process has had resident, in MB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}

// bareContainers runs containers in series, on one network and with one volume, by as few calls as
// it takes.
func bareContainers(b *testing.B, image string, n int) {
	b.Helper()
	ctx := b.Context()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	c, err := engine.Connect(ctx)
	must(err)
	defer c.Close()
	name := unique("bare")
	_, err = c.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge"})
	must(err)
	_, err = c.VolumeCreate(ctx, volume.CreateOptions{Name: name})
	must(err)
	for range n {
		created, err := c.ContainerCreate(ctx, &container.Config{Image: image, Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"true"}},
			&container.HostConfig{NetworkMode: container.NetworkMode(name), Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: name, Target: "/drone/src"}}}, nil, nil, "")
		must(err)
		exits, errs := c.ContainerWait(ctx, created.ID, container.WaitConditionNextExit)
		must(c.ContainerStart(ctx, created.ID, container.StartOptions{}))
		select {
		case <-exits:
		case err := <-errs:
			must(err)
		}
		must(c.ContainerRemove(ctx, created.ID, container.RemoveOptions{}))
	}
	must(c.NetworkRemove(ctx, name))
	must(c.VolumeRemove(ctx, name, false))
}
