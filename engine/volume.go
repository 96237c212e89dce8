package engine

import (
	"context"
	"fmt"
	"path"
	"strconv"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// createVolume makes a volume that the daemon holds. One that is there already stays as it is.
func (d *Docker) createVolume(ctx context.Context, r *run, s *spec.Spec, v *spec.Volume) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := volume.CreateOptions{Name: v.ID, Driver: "local", Labels: d.labels(s)}
	switch v.Kind {
	case spec.VolumeMemory:
		o.DriverOpts = memoryOptions(v.SizeLimit)
	case spec.VolumePersistent:
		o.Labels = d.persistentLabels(v)
	}
	_, err := made(ctx, r, d.opts.Deadlines.Volume, func(ctx context.Context) (volume.Volume, error) { return d.client.VolumeCreate(ctx, o) })
	if err != nil {
		return fmt.Errorf("create volume %q (%s): %w", v.Name, v.Kind, err)
	}
	if v.Kind == spec.VolumePersistent {
		d.opts.Ledger.UsedVolume(v.ID)
	}
	return nil
}

// memoryOptions make the local driver mount one tmpfs for all containers that use the volume at a
// time. The daemon counts them, and unmounts with the last: as with Drone's own runner, the content
// exists while some step or service of the stage has it.
func memoryOptions(size int64) map[string]string {
	o := map[string]string{"type": "tmpfs", "device": "tmpfs"}
	if size > 0 {
		o["o"] = "size=" + strconv.FormatInt(size, 10)
	}
	return o
}

// mounts are those of a step; the operator's own binds in a form of their own.
func (d *Docker) mounts(s *spec.Spec, step *spec.Step) (out []mount.Mount, binds []string, err error) {
	volumes := make(map[string]*spec.Volume, len(s.Volumes))
	for _, v := range s.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range step.Mounts {
		v := volumes[m.Volume]
		switch {
		case v == nil:
			return nil, nil, fmt.Errorf("mount volume %q at %s: the pipeline declares no volume of that name", m.Volume, m.Path)
		case !path.IsAbs(m.Path):
			return nil, nil, fmt.Errorf("mount volume %q at %q: the path must be absolute", m.Volume, m.Path)
		case path.Clean(m.Path) == "/":
			return nil, nil, fmt.Errorf("mount volume %q at /: it would hide the whole image; mount it at a folder below", m.Volume)
		}
		at := mount.Mount{Type: mount.TypeVolume, Source: v.ID, Target: path.Clean(m.Path), ReadOnly: v.ReadOnly}
		switch v.Kind {
		case spec.VolumeBind:
			at.Type, at.Source = mount.TypeBind, d.bindSource(s, v)
			if bind, ok := asBind(at); ok && v.Root == "" {
				binds = append(binds, bind)
				continue
			}
		case spec.VolumeSocket:
			at.Type, at.Source = mount.TypeBind, d.socketOf(s)
		case spec.VolumeSocketDir:
			at.Type, at.Source = mount.TypeBind, d.socketDirOf(s)
		case spec.VolumePluginSocket:
			at.Type, at.Source = mount.TypeBind, d.pluginSocketOf(s)
		case spec.VolumeCerts:
			at.Type, at.Source, at.ReadOnly = mount.TypeBind, d.certsOf(s), true
		}
		out = append(out, at)
	}
	return out, binds, nil
}
