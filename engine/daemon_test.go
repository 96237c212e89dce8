//go:build !unit

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// newDaemon is a bench whose run has a docker daemon among its services, and more by these names,
// the machine's address on the run's network, and the folder with the client's certificates.
func newDaemon(t *testing.T, more ...string) (b *bench, gateway, certs string) {
	t.Helper()
	standin.Image(t, "docker")
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b = newBench(t, engine.Options{Guard: &engine.GuardOptions{Dir: dir}})
	b.volume("workspace", spec.VolumeTemp)
	b.spec.Volumes = append(b.spec.Volumes, &spec.Volume{Name: "certs", Kind: spec.VolumeCerts})
	b.spec.Steps = append(b.spec.Steps, &spec.Step{ID: b.spec.ID + "-docker", Name: "docker", Service: true, Detach: true, Image: "docker.io/library/docker:dind",
		Daemon: &spec.Daemon{Ports: []int{2375}, TLSPorts: []int{2376}}})
	for i, name := range more {
		b.spec.Steps = append(b.spec.Steps, &spec.Step{ID: fmt.Sprintf("%s-more-%d", b.spec.ID, i), Name: name, Service: true, Detach: true,
			Image: "docker.io/library/docker:dind", Daemon: &spec.Daemon{Ports: []int{2375}, TLSPorts: []int{2376}}})
	}
	b.setup()
	n, err := b.client.NetworkInspect(t.Context(), b.spec.Network.Name, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b, n.IPAM.Config[0].Gateway, filepath.Join(dir, b.spec.ID, "certs")
}

// script runs a shell script in a step of the bench, and is what it prints.
func (b *bench) script(t *testing.T, name, script string, mounts ...string) string {
	t.Helper()
	b = b.in(t)
	s := docker(name, script, mounts...)
	s.ID = b.spec.ID + "-" + name
	b.spec.Steps = append(b.spec.Steps, s)
	var out transcript
	exit, err := b.prepare(s).Run(t.Context(), &out, nil)
	if err != nil || exit.Code != 0 {
		t.Errorf("step %s: %+v %v\n%s", name, exit, err, out.String())
	}
	return out.String()
}

func TestDaemonNeedsNoContainer(t *testing.T) {
	t.Parallel()
	b, _, _ := newDaemon(t)
	c := b.prepare(b.spec.Steps[0])
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	_, err := c.Run(ctx, &out, cancel) // it's up at once, and ends when it's told to
	if !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("%v, output %q", err, out.String())
	}
	for _, left := range b.left(t.Context()) {
		if strings.HasPrefix(left, "container") {
			t.Errorf("a container was made: %s", left)
		}
	}
}

// TestDaemonIsOfItsRunAlone tries its ports from everywhere but the network of its run: they are on
// an address that other runs' containers reach.
func TestDaemonIsOfItsRunAlone(t *testing.T) {
	t.Parallel()
	b, gateway, _ := newDaemon(t)
	if out := b.script(t, "own", `wget -qO- http://docker:2375/_ping; wget -qO- http://`+gateway+`:2375/_ping`); out != "OKOK" {
		t.Errorf("a step of the run gets %q", out)
	}
	other := newBench(t, engine.Options{})
	other.volume("workspace", spec.VolumeTemp)
	other.setup()
	// The fence drops what it sends (package fence); where there can be no fence it gets through to
	// the port, and no answer there.
	if out := other.script(t, "other", `! wget -T 2 -qO- http://`+gateway+`:2375/_ping 2>&1`); strings.Contains(out, "OK") {
		t.Errorf("a step of another run gets %q", out)
	}

	hasty := http.Client{Timeout: time.Minute}
	for _, url := range []string{"http://" + net.JoinHostPort(gateway, "2375"), "https://" + net.JoinHostPort(gateway, "2376")} {
		resp, err := hasty.Get(url + "/_ping")
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("the machine itself gets %s from %s", resp.Status, url)
		} else if text := err.Error(); !errors.Is(err, io.EOF) && !strings.Contains(text, "reset by peer") && !strings.Contains(text, "server closed idle connection") {
			t.Errorf("%s: %v", url, err) // closed before the request was written is net/http's third way to say so
		}
	}
}

// TestDaemonsOfAnyName has daemons whose steps have names that no host has. They hurt nobody.
func TestDaemonsOfAnyName(t *testing.T) {
	t.Parallel()
	b, gateway, _ := newDaemon(t, "my dæmon", "a:b", "x\n10.0.0.1 registry", "localhost", "second-one")
	out := b.script(t, "hosts", `wget -qO- http://second-one:2375/_ping; cat /etc/hosts`)
	if !strings.HasPrefix(out, "OK") || !strings.Contains(out, gateway+"\tdocker\n") {
		t.Errorf("a step finds %q", out)
	}
	for _, bad := range []string{"dæmon", "registry", gateway + "\tlocalhost", gateway + "\ta\n"} {
		if strings.Contains(out, bad) {
			t.Errorf("/etc/hosts holds %q: %s", bad, out)
		}
	}
}

func TestDaemonOverTLS(t *testing.T) {
	t.Parallel()
	b, _, _ := newDaemon(t)
	const verify = `export DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs/client; `
	b.script(t, "client", verify+`docker info >/dev/null; ls -A /certs/client; ! touch /certs/client/x`, "certs:/certs/client")
	// Neither without a certificate, nor with one that somebody else signed.
	b.script(t, "nobody", `! docker -H tcp://docker:2376 --tls info`, "certs:/certs/client")
	_, _, stranger := newDaemon(t)
	key, err := os.ReadFile(filepath.Join(stranger, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(filepath.Join(stranger, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	b.script(t, "stranger", `mkdir /mine; cp /certs/client/ca.pem /mine; printf %s '`+string(key)+`' >/mine/key.pem; printf %s '`+string(cert)+`' >/mine/cert.pem
		DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/mine; export DOCKER_HOST DOCKER_TLS_VERIFY DOCKER_CERT_PATH
		docker info 2>&1 | grep -i 'tls: \|certificate'`, "certs:/certs/client")
}
