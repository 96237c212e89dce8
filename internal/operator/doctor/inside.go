package doctor

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

// label marks what doctor makes, so that leftovers show where they are from.
const label = "io.drone-runner-sysbox.doctor"

// Report is what Look sees from inside a container.
type Report struct {
	// Addresses that the host's name stands for, or the error of asking.
	Addresses []string `json:"addresses,omitempty"`
	DNSError  string   `json:"dns_error,omitempty"`
	// DialError is why no connection to the address could be made; empty if it could.
	DialError string `json:"dial_error,omitempty"`
	// MTU of the container's way out, in bytes.
	MTU int `json:"mtu"`
}

// Look is what the container does: it resolves the host of address (host:port), connects there, and
// reads its own MTU.
func Look(ctx context.Context, address string) Report {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout/2)
	defer cancel()
	var r Report
	host, _, err := net.SplitHostPort(address)
	if err == nil {
		r.Addresses, err = net.DefaultResolver.LookupHost(ctx, host)
	}
	if err != nil {
		r.DNSError = err.Error()
	} else if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err != nil {
		r.DialError = err.Error()
	} else {
		conn.Close()
	}
	if up, err := uplink.Find(); err == nil {
		r.MTU = up.MTU
	}
	return r
}

// inside looks at the network as steps and builds see it: a step from a bridge of its stage, a RUN
// of `docker build` from the daemon's default bridge, whose containers get another resolv.conf. The
// image is made of this very program, so that no registry is needed.
func (d Doctor) inside(ctx context.Context) []syscont.Check {
	address, err := dialAddress(d.Server)
	if err != nil {
		return []syscont.Check{fail("network inside", err.Error(), "correct DRONE_RPC_PROTO and DRONE_RPC_HOST")}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	seen, err := d.look(ctx, address)
	if err != nil {
		return []syscont.Check{fail("network inside", err.Error(), "steps meet the same: repair the daemon first")}
	}
	up, upErr := uplink.Find()
	host, _, _ := net.SplitHostPort(address)
	here := lookup(ctx, host, up)
	checks := judge(seen.step, address, here)
	checks = append(checks, judgeMTU(seen.step, up, upErr))
	if seen.build != nil {
		checks = append(checks, judgeBuild(*seen.build, here))
	}
	return checks
}

func judge(r Report, address string, here whereabouts) []syscont.Check {
	switch {
	case r.DNSError != "":
		return []syscont.Check{fail("dns inside", r.DNSError, here.advice())}
	case r.DialError != "":
		return []syscont.Check{pass("dns inside", strings.Join(r.Addresses, " ")),
			fail("reach inside", r.DialError, "containers can't reach "+address+": look at routes, firewalls and at networks that share its addresses")}
	}
	return []syscont.Check{pass("dns inside", strings.Join(r.Addresses, " ")), pass("reach inside", address)}
}

// judgeBuild is about RUN in `docker build`. Many builds need no name of this network there, so a
// failure is a warning.
func judgeBuild(r Report, here whereabouts) syscont.Check {
	const name = "dns in docker build"
	if r.DNSError != "" {
		return warn(name, r.DNSError, here.advice())
	}
	return pass(name, strings.Join(r.Addresses, " "))
}

func judgeMTU(r Report, up uplink.Uplink, err error) syscont.Check {
	const name = "mtu"
	seen := fmt.Sprintf("uplink %d, containers %d", up.MTU, r.MTU)
	switch {
	case err != nil || up.MTU == 0 || r.MTU == 0:
		return warn(name, seen, "there is no default route to compare with")
	case r.MTU > up.MTU:
		return fail(name, fmt.Sprintf("containers send packets of %d bytes, the uplink takes %d: large answers will hang", r.MTU, up.MTU),
			fmt.Sprintf("DRONE_RUNNER_NETWORK_OPTS=%s:%d", bridge.OptionMTU, up.MTU))
	}
	return pass(name, seen)
}

// views are what containers on the two kinds of networks report.
type views struct {
	step Report
	// build is nil where the daemon has no default bridge.
	build *Report
}

// look runs Look in containers, and removes all that it made.
func (d Doctor) look(ctx context.Context, address string) (seen views, err error) {
	name := "drone-doctor-" + strings.ToLower(rand.Text()[:10])
	clean := func(what string, remove func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		if e := remove(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", what, e))
		}
	}
	if err := d.importSelf(ctx, name); err != nil {
		return seen, err
	}
	defer clean("the image "+name, func(ctx context.Context) error {
		_, err := d.Docker.ImageRemove(ctx, name, image.RemoveOptions{Force: true})
		return err
	})
	labels := map[string]string{label: "true"}
	options := map[string]string{}
	if up, err := uplink.Find(); err == nil && up.MTU > 0 {
		options[bridge.OptionMTU] = fmt.Sprint(up.MTU) // as the networks of stages have it
	}
	if _, err := d.Docker.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge", Labels: labels, Options: options}); err != nil {
		return seen, fmt.Errorf("make a network: %w", err)
	}
	defer clean("the network "+name, func(ctx context.Context) error { return d.Docker.NetworkRemove(ctx, name) })
	if seen.step, err = d.lookFrom(ctx, address, name, name); err != nil {
		return seen, err
	}
	if _, err := d.Docker.NetworkInspect(ctx, network.NetworkBridge, network.InspectOptions{}); err != nil {
		return seen, nil // its builds have no network to look at
	}
	build, err := d.lookFrom(ctx, address, name, network.NetworkBridge)
	if err != nil {
		return seen, err
	}
	seen.build = &build
	return seen, nil
}

// lookFrom runs Look in a container on one network.
func (d Doctor) lookFrom(ctx context.Context, address, program, on string) (report Report, err error) {
	c, err := d.Docker.ContainerCreate(ctx, &container.Config{Image: program, Entrypoint: []string{"/drone-runner-sysbox", "look", address}, Labels: map[string]string{label: "true"}},
		&container.HostConfig{NetworkMode: container.NetworkMode(on)}, nil, nil, "")
	if err != nil {
		return report, fmt.Errorf("make a container: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		if e := d.Docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); e != nil {
			err = errors.Join(err, fmt.Errorf("remove the container %s: %w", c.ID, e))
		}
	}()
	out, err := runToEnd(ctx, d.Docker, c.ID)
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return report, fmt.Errorf("the container printed %q: %w", out, err)
	}
	return report, nil
}

// importSelf makes an image of one file, the program.
func (d Doctor) importSelf(ctx context.Context, name string) error {
	f, err := os.Open(d.Program)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	r, w := io.Pipe()
	written := make(chan struct{})
	defer func() {
		r.Close() // ends the goroutine if the daemon hung up
		<-written
	}()
	go func() {
		defer close(written)
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: "drone-runner-sysbox", Mode: 0o755, Size: st.Size(), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = io.Copy(t, f)
		}
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	res, err := d.Docker.ImageImport(ctx, image.ImportSource{Source: r, SourceName: "-"}, name, image.ImportOptions{Changes: []string{"LABEL " + label + "=true"}})
	if err != nil {
		return fmt.Errorf("make an image of this program: %w", err)
	}
	defer res.Close()
	_, err = io.Copy(io.Discard, res)
	return err
}

// runToEnd starts a container and returns what it printed.
func runToEnd(ctx context.Context, c client.ContainerAPIClient, id string) ([]byte, error) {
	ended, failed := c.ContainerWait(ctx, id, container.WaitConditionNextExit)
	if err := c.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return nil, fmt.Errorf("start a container: %w", err)
	}
	select {
	case <-ended:
	case err := <-failed:
		return nil, fmt.Errorf("wait for a container: %w", err)
	}
	logs, err := c.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return nil, fmt.Errorf("read what a container said: %w", err)
	}
	defer logs.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, logs); err != nil {
		return nil, fmt.Errorf("read what a container said: %w", err)
	}
	return out.Bytes(), nil
}

// dialAddress is host:port of a URL.
func dialAddress(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	if u.Hostname() == "" {
		return "", fmt.Errorf("the server's address %q has no host", server)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
	}
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
