package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// ImageOrigin says where a step's image came from.
type ImageOrigin string

// The origins, as Options.Origin gets them: once for each step.
const (
	ImagePulled   ImageOrigin = "pulled"   // from its registry, or found there to be what the daemon has
	ImageCached   ImageOrigin = "cached"   // from the daemon's disk
	ImageFallback ImageOrigin = "fallback" // from the daemon's disk, since the pull failed
	ImageFailed   ImageOrigin = "failed"   // from nowhere
)

// Fallback says after which failed pulls the daemon's own copy of an image is used, with a warning.
type Fallback string

// The ways to fall back. FallbackDefault is after pulls that the pipeline doesn't ask for by name:
// those that an image tagged latest implies.
const (
	FallbackDefault Fallback = ""
	FallbackAlways  Fallback = "always"
	FallbackNever   Fallback = "never"
)

// wanted is a step's image on its way to a container.
type wanted struct {
	pull
	step     *spec.Step
	platform *ocispec.Platform
	output   io.Writer
	// proven says that a pull has just shown that the step may have the image, failed why it
	// couldn't.
	proven bool
	failed error
}

// createWithImage creates the container, with a pull before it where the policy, the registry or
// the daemon asks for one. Without Options.Access an image that is there already costs no call of
// its own: the create itself fails if it isn't.
func (d *Docker) createWithImage(ctx context.Context, r *run, s *spec.Spec, step *spec.Step, output io.Writer) (id string, err error) {
	w, named, err := d.wants(ctx, s, step, output)
	if err != nil {
		return "", err
	}
	platform := w.platform
	release := d.opts.Ledger.Hold(w.Image)
	defer release()

	origin := ImageFailed
	defer func() {
		if d.opts.Origin != nil && ctx.Err() == nil {
			d.opts.Origin(origin)
		}
	}()
	always := pullsAlways(step.Pull, named)
	if ahead, fresh := d.takeFetch(s, w.pull); ahead || always {
		p := w.pull
		p.IfAbsent = fresh // it joins the pull that is under way, or finds the image
		w.failed = d.pullAttended(ctx, p, output)
		w.proven = w.failed == nil
		if w.failed != nil && (always && !d.fallsBack(step.Pull) || ctx.Err() != nil) {
			return "", w.failed
		}
	}
	use, err := d.mayUse(ctx, w)
	if err != nil {
		return "", err
	}
	if use {
		id, err = d.createMakingRoom(ctx, r, s, w)
		if err == nil {
			origin = w.origin()
			if w.failed != nil {
				say(output, "warning: "+w.failed.Error()+"; this machine's copy, which may be older, is used")
			}
			return id, nil
		}
		missing, inspectErr := d.imageMissing(ctx, err, w.Image, platform)
		if inspectErr != nil || !missing {
			return "", errors.Join(err, inspectErr)
		}
	}
	switch {
	case w.failed != nil:
		return "", fmt.Errorf("%w; and this machine has no copy of it", w.failed)
	case step.Pull == spec.PullNever:
		return "", fmt.Errorf("step %q: this machine doesn't have the image %s%s, and `pull: never` forbids to fetch it; use `pull: if-not-exists`, or load the image first",
			step.Name, step.Image, forPlatform(platform))
	}
	w.IfAbsent = true
	if err := d.pullAttended(ctx, w.pull, output); err != nil {
		return "", err
	}
	if id, err = d.createMakingRoom(ctx, r, s, w); err == nil {
		origin = ImagePulled
	}
	return id, err
}

func (w *wanted) origin() ImageOrigin {
	switch {
	case w.proven:
		return ImagePulled
	case w.failed != nil:
		return ImageFallback
	}
	return ImageCached
}

// fallsBack reports whether a step whose pull has failed may make do with the daemon's copy.
func (d *Docker) fallsBack(policy spec.PullPolicy) bool {
	switch d.opts.Pull.Fallback {
	case FallbackAlways:
		return true
	case FallbackNever:
		return false
	}
	return policy != spec.PullAlways
}

// mayUse reports whether the step may have the copy that the daemon has, or might have. If it has
// one, and the step's credentials haven't been shown to be good for it, a pull that the policy
// allows shows it: then it is false.
func (d *Docker) mayUse(ctx context.Context, w *wanted) (bool, error) {
	if d.opts.Access == nil || w.proven {
		return true, nil
	}
	in, err := d.lookAtImage(ctx, w.Image)
	if in == nil || err != nil {
		return true, err // the create finds out
	}
	may, unknown := d.opts.Access.May(ctx, imageOf(w.Image, in), authConfig(w.pull))
	const private = "this machine has a copy, which is kept for those who may pull it"
	switch {
	case may:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case w.failed != nil:
		return false, errors.Join(fmt.Errorf("%w; %s", w.failed, private), unknown)
	case w.step.Pull == spec.PullNever:
		return false, errors.Join(fmt.Errorf("step %q: %s, and nothing shows that this build may pull the image %s (image_pull_secrets or DRONE_DOCKER_CONFIG)", w.step.Name, private, w.step.Image), unknown)
	}
	if unknown != nil {
		d.log.WithError(unknown).WithField("image", w.Image).Debug("a pull decides who may have an image")
	}
	err = d.pullAttended(ctx, w.pull, w.output)
	w.proven = err == nil
	if err != nil {
		return false, fmt.Errorf("%w; %s", err, private)
	}
	return true, nil
}

// lookAtImage is what the daemon knows of an image; nil if it has none of that name.
func (d *Docker) lookAtImage(ctx context.Context, ref string) (*image.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Inspect)
	defer cancel()
	in, err := d.client.ImageInspect(ctx, ref)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for image %s: %w", ref, err)
	}
	return &in, nil
}

// imageOf is an image as the rules of access see it, asked for by that name.
func imageOf(name string, in *image.InspectResponse) cache.Image {
	return cache.Image{Name: name, Tags: in.RepoTags, Digests: in.RepoDigests}
}

// createMakingRoom creates the container, and once more if the disk was full and there is more room
// now. The image is used from then on.
func (d *Docker) createMakingRoom(ctx context.Context, r *run, s *spec.Spec, w *wanted) (string, error) {
	id, err := d.create(ctx, r, s, w.step, w.platform)
	if diskFull(err) && d.makeRoom(ctx, func(line string) { say(w.output, line) }) {
		id, err = d.create(ctx, r, s, w.step, w.platform)
	}
	if err == nil && d.opts.Ledger != nil {
		d.noteUse(ctx, w.Image)
	}
	return id, err
}

// noteUse writes down that an image is used. That it can't be is no reason to fail a build.
func (d *Docker) noteUse(ctx context.Context, ref string) {
	in, err := d.lookAtImage(ctx, ref)
	if in == nil || err != nil {
		d.log.WithError(err).WithField("image", ref).Debug("the use of an image can't be noted")
		return
	}
	d.opts.Ledger.UsedImage(in.ID)
}

// diskFull reports whether the daemon failed for want of room. It says so by text alone.
func diskFull(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

// makeRoom has room made on the daemon's disk, and reports whether there is more of it.
func (d *Docker) makeRoom(ctx context.Context, say func(string)) bool {
	if d.opts.Room == nil {
		return false
	}
	say("the disk of the docker daemon is full: what hasn't been used for longest makes room")
	if err := d.opts.Room(ctx); err != nil {
		say("warning: " + err.Error())
		return false
	}
	return true
}

// holdImages keeps the images of a stage's steps from being removed to make room, each until its
// container is there.
func (d *Docker) holdImages(r *run, sp *spec.Spec) {
	if d.opts.Ledger == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = map[string]func(){}
	for _, s := range sp.Steps {
		if s.RunPolicy != spec.RunNever && s.Daemon == nil {
			r.held[s.ID] = d.opts.Ledger.Hold(s.Image)
		}
	}
}

// dropImage ends the hold on a step's image.
func (r *run) dropImage(step *spec.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if release := r.held[step.ID]; release != nil {
		release()
	}
}

// dropImages ends those of all steps.
func (r *run) dropImages() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, release := range r.held {
		release()
	}
}
