package policy

import (
	"reflect"

	"github.com/docker/docker/api/types/volume"
)

// volumeRules are for volume.CreateOptions: folders of the daemon's own.
var volumeRules = []fieldRule{
	{"Name", optionalVolumeName},
	{"Driver", oneOf("only the local volume driver may be used", "", "", "local")},
	{
		"DriverOpts",
		deny(
			"the local driver's options (type, o, device) can mount anything of the machine",
			"leave them out; for memory, use a tmpfs mount",
		),
	},
	{"Labels", ownLabels},
	{"ClusterVolumeSpec", deny("it is for swarms", "")},
}

// optionalVolumeName judges a name that the daemon makes up where there is none.
func optionalVolumeName(_ *judgement, _ string, v reflect.Value) error {
	if v.String() == "" {
		return nil
	}
	return volumeName(v.String())
}

// VolumeCreate judges a volume.
func VolumeCreate(w World, o *volume.CreateOptions) error {
	return (&judgement{stage: w.Stage()}).judge("", o, volumeRules)
}
