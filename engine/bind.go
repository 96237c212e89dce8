package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// holdBinds finds, for each bind that must stay below a folder (Volume.Root), what is there now,
// and mounts just that at a place that no step reaches. Steps of any stage may write below such a
// folder: by its path, the daemon would follow a symbolic link that one of them has put there, to
// any place of this machine.
//
// Where the daemon doesn't share the runner's mounts, it is given the path, as it is written.
func (d *Docker) holdBinds(r *run, s *spec.Spec) error {
	for _, v := range s.Volumes {
		if v.Kind != spec.VolumeBind || v.Root == "" {
			continue
		}
		if err := d.holdBind(r, s, v); err != nil {
			return fmt.Errorf("mount volume %q (%s): %w", v.Name, v.Path, err)
		}
	}
	return nil
}

func (d *Docker) holdBind(r *run, s *spec.Spec, v *spec.Volume) error {
	daemon, err := d.daemonSocket()
	if err != nil || d.opts.Guard == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.points == nil {
		r.points, r.binds = mounts.New(filepath.Join(d.stageDir(s), "binds"), daemon), map[string]string{}
	}
	rel, err := filepath.Rel(v.Root, v.Path)
	if err != nil {
		return fmt.Errorf("see where it is below %s: %w", v.Root, err)
	}
	if err := r.points.Shared(); err != nil {
		d.unheld.Do(func() {
			d.log.WithError(err).Warn("the docker daemon has mounts of its own: host paths are bound by name, and a stage may lead a later one astray with a symbolic link below DRONE_RUNNER_HOST_PATHS")
		})
		return nil
	}
	// As Docker does it for a bind whose source is missing.
	if err := os.MkdirAll(v.Root, 0o755); err != nil {
		return fmt.Errorf("make the folder of DRONE_RUNNER_HOST_PATHS: %w", err)
	}
	point, err := r.points.Add(v.Root, rel, true)
	switch {
	case errors.Is(err, mounts.ErrLeadsOut):
		return fmt.Errorf("a symbolic link on the way leads out of %s, or is an absolute one: links must be relative and stay below", v.Root)
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("a symbolic link on the way leads to nothing: remove it, or make what it leads to")
	case err != nil:
		return err
	}
	r.binds[v.Name] = point
	return nil
}

// stageDir is the folder for what a stage mounts of this machine: the guard's sockets, and the
// mount points of binds.
func (d *Docker) stageDir(s *spec.Spec) string { return filepath.Join(d.opts.Guard.Dir, s.ID) }

// closeBinds undoes the mounts, when the containers that use them are gone.
func (d *Docker) closeBinds(r *run, s *spec.Spec) error {
	if r == nil {
		return nil // closeFormerGuard does so
	}
	r.mu.Lock()
	points := r.points
	r.mu.Unlock()
	if points == nil {
		return nil
	}
	if err := points.Close(); err != nil {
		return fmt.Errorf("undo the mounts of host paths: %w", err)
	}
	// The stage's folder, unless its guard has something there, and removes it.
	if err := os.Remove(d.stageDir(s)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("undo the mounts of host paths: %w", err)
	}
	return nil
}

// bindSource is what the daemon mounts for a bind of the stage.
func (d *Docker) bindSource(s *spec.Spec, v *spec.Volume) string {
	if r := d.run(s); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if point := r.binds[v.Name]; point != "" {
			return point
		}
	}
	return v.Path
}

// asBind writes a mount of the operator's in the daemon's older form, in which the daemon makes a
// source that isn't there. That form can't express a colon in a path.
func asBind(m mount.Mount) (text string, ok bool) {
	if strings.Contains(m.Source+m.Target, ":") {
		return "", false
	}
	text = m.Source + ":" + m.Target
	if m.ReadOnly {
		text += ":ro"
	}
	return text, true
}
