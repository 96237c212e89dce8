package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// pull is what is asked of the daemon. Equal pulls at one time are one pull. Its fields are
// exported so that the password in it prints as Redacted.
type pull struct {
	Image    string // normalised: registry/repository:tag or @digest
	Platform string
	Auth     spec.Auth
	// IfAbsent looks whether the image has come in the meantime.
	IfAbsent bool
}

// pullImage pulls, together with other steps of this runner that want the same at the moment, and
// writes what happens to output.
func (d *Docker) pullImage(ctx context.Context, p pull, output io.Writer) error {
	return d.pulls.do(ctx, p, func(line string) { say(output, line) })
}

// pullWithRetries pulls, and tries again after failures that may pass.
func (d *Docker) pullWithRetries(ctx context.Context, p pull, say func(string)) error {
	if p.IfAbsent && p.Platform == "" && d.hasCome(ctx, p) {
		return nil
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.Multiplier = d.opts.Pull.Interval, 2
	tries := uint(max(d.opts.Pull.Retries, 0)) + 1
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := d.pullOnce(ctx, p, say)
		if diskFull(err) && !d.makeRoom(ctx, say) {
			return struct{}{}, backoff.Permanent(err)
		}
		if err != nil && pullFailure(err) != failedForNow {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		say(fmt.Sprintf("warning: pull of %s failed, next try in %s: %v", p.Image, wait.Round(10*time.Millisecond), err))
	}))
	var permanent *backoff.PermanentError // what Retry leaves wrapped when its last try fails for good
	if errors.As(err, &permanent) {
		err = permanent.Err
	}
	if err == nil && d.opts.Access != nil {
		err = d.provePull(ctx, p)
	}
	return explainPull(p, err)
}

// hasCome reports whether the image is there, and for these credentials: somebody else may have
// pulled it with others.
func (d *Docker) hasCome(ctx context.Context, p pull) bool {
	in, err := d.lookAtImage(ctx, p.Image)
	if in == nil || err != nil {
		return false
	}
	may, err := d.opts.Access.May(ctx, imageOf(p.Image, in), authConfig(p))
	return may && err == nil
}

// provePull writes down that these credentials are good for the image that was pulled. For a pull
// by digest they needn't be: the daemon doesn't ask the registry for what it has.
func (d *Docker) provePull(ctx context.Context, p pull) error {
	in, err := d.lookAtImage(ctx, p.Image)
	if in == nil || err != nil {
		return err // it went as it came, which the create finds out
	}
	if !strings.Contains(p.Image, "@") {
		d.opts.Access.Pulled(imageOf(p.Image, in), authConfig(p))
		return nil
	}
	may, err := d.opts.Access.May(ctx, imageOf(p.Image, in), authConfig(p))
	if !may && err == nil {
		err = errdefs.ErrUnauthenticated.WithMessage("the registry lets others have it, and not these credentials")
	}
	return err
}

var errStalled = errors.New("the pull stalled")

// pullOnce asks the daemon once and follows the progress to its end.
func (d *Docker) pullOnce(ctx context.Context, p pull, say func(string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(d.opts.Pull.Stall, func() {
		cancel(fmt.Errorf("%w: the registry sent nothing for %s", errStalled, d.opts.Pull.Stall))
	})
	defer stall.Stop()
	err := d.pullStream(ctx, p, say, func() { stall.Reset(d.opts.Pull.Stall) })
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return context.Cause(ctx)
	}
	return err
}

func (d *Docker) pullStream(ctx context.Context, p pull, say func(string), moved func()) error {
	auth, err := registryAuth(p)
	if err != nil {
		return err
	}
	body, err := d.client.ImagePull(ctx, p.Image, image.PullOptions{RegistryAuth: auth, Platform: p.Platform})
	if err != nil {
		return err
	}
	defer body.Close()
	progress := newPullProgress(d.opts.StreamPull, say)
	for messages := json.NewDecoder(body); ; {
		var m jsonmessage.JSONMessage
		switch err := messages.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the daemon's progress: %w", err)
		case m.Error != nil:
			return errors.New(m.Error.Message)
		}
		moved()
		progress.show(m)
	}
}

// pullProgress turns the daemon's messages, many a second, into lines as docker pull prints where
// there is no terminal: a line for each change of a layer's state.
type pullProgress struct {
	stream bool
	say    func(string)
	last   map[string]string // layer → status
}

func newPullProgress(stream bool, say func(string)) *pullProgress {
	return &pullProgress{stream: stream, say: say, last: map[string]string{}}
}

func (p *pullProgress) show(m jsonmessage.JSONMessage) {
	if !p.stream || m.Status == "" {
		return
	}
	if m.ID == "" {
		p.say(m.Status)
		return
	}
	switch m.Status {
	case "Waiting", "Downloading", "Verifying Checksum", "Extracting":
		return // comes with every few kilobytes
	}
	if p.last[m.ID] != m.Status {
		p.last[m.ID] = m.Status
		p.say(m.ID + ": " + m.Status)
	}
}

// registryHost is the registry that an image comes from, as its developers call it.
func registryHost(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.Domain(named)
}
