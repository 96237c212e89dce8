package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// ruled are the structs whose every field has a rule.
var ruled = map[reflect.Type][]fieldRule{
	reflect.TypeFor[container.Config]():         configRules,
	reflect.TypeFor[container.HostConfig]():     hostRules,
	reflect.TypeFor[container.Resources]():      resourceRules,
	reflect.TypeFor[container.ExecOptions]():    execRules,
	reflect.TypeFor[network.NetworkingConfig](): networkingRules,
	reflect.TypeFor[network.EndpointSettings](): endpointRules,
	reflect.TypeFor[network.CreateRequest]():    networkRules,
	reflect.TypeFor[network.CreateOptions]():    networkOptionRules,
	reflect.TypeFor[network.IPAM]():             ipamRules,
	reflect.TypeFor[network.IPAMConfig]():       ipamConfigRules,
	reflect.TypeFor[mount.Mount]():              mountRules,
	reflect.TypeFor[mount.BindOptions]():        bindOptionRules,
	reflect.TypeFor[mount.VolumeOptions]():      volumeOptionRules,
	reflect.TypeFor[mount.Driver]():             volumeDriverRules,
	reflect.TypeFor[mount.ImageOptions]():       imageOptionRules,
	reflect.TypeFor[mount.TmpfsOptions]():       tmpfsOptionRules,
	reflect.TypeFor[volume.CreateOptions]():     volumeRules,
	reflect.TypeFor[registry.AuthConfig]():      authRules,
}

// whole are structs that are judged, allowed or denied as one; the fields that somebody has thought
// about.
var whole = map[reflect.Type]string{
	// Create
	reflect.TypeFor[container.CreateRequest](): "Config HostConfig NetworkingConfig",
	// Update
	reflect.TypeFor[container.UpdateConfig](): "Resources RestartPolicy",
	// forwarded by the guard as it is
	reflect.TypeFor[container.ExecStartOptions](): "Detach Tty ConsoleSize",
	// Checkpoint
	reflect.TypeFor[checkpoint.CreateOptions](): "CheckpointID CheckpointDir Exit",
	// Connect
	reflect.TypeFor[network.ConnectOptions](): "Container EndpointConfig",
	// Disconnect
	reflect.TypeFor[network.DisconnectOptions](): "Container Force",
	// configFrom
	reflect.TypeFor[network.ConfigReference](): "Network",
	// allowed: an address in a network of the build's
	reflect.TypeFor[network.EndpointIPAMConfig](): "IPv4Address IPv6Address LinkLocalIPs",
	// restartPolicy
	reflect.TypeFor[container.RestartPolicy](): "Name MaximumRetryCount",
	// logConfig
	reflect.TypeFor[container.LogConfig](): "Type Config",
	// denied
	reflect.TypeFor[container.DeviceMapping](): "PathOnHost PathInContainer CgroupPermissions",
	// denied
	reflect.TypeFor[container.DeviceRequest](): "Driver Count DeviceIDs Capabilities Options",
	// denied
	reflect.TypeFor[blkiodev.WeightDevice](): "Path Weight",
	// denied
	reflect.TypeFor[blkiodev.ThrottleDevice](): "Path Rate",
	// denied
	reflect.TypeFor[mount.ClusterOptions](): "",
	// publish
	reflect.TypeFor[nat.PortBinding](): "HostIP HostPort",
	// ulimits
	reflect.TypeFor[units.Ulimit](): "Name Hard Soft",
	// allowed: runs in the container
	reflect.TypeFor[dockerspec.HealthcheckConfig](): "Test Interval Timeout StartPeriod StartInterval Retries",
	reflect.TypeFor[struct{}]():                     "",
	reflect.TypeFor[time.Time]():                    "",
}

// denied structs need no look inside.
var deniedTypes = []reflect.Type{reflect.TypeFor[volume.ClusterVolumeSpec]()}

// TestEveryFieldHasARule walks the bodies of all requests in moby's API. A new version of Docker
// that adds a field fails here: think about it, then name it.
func TestEveryFieldHasARule(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || slices.Contains(deniedTypes, typ) {
			return
		}
		seen[typ] = true
		fields := []string{}
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() {
				fields = append(fields, f.Name)
				walk(f.Type)
			}
		}
		var have []string
		if rules, ok := ruled[typ]; ok {
			for _, r := range rules {
				have = append(have, r.field)
			}
		} else if names, ok := whole[typ]; ok {
			have = strings.Fields(names)
		} else {
			t.Errorf("no policy names the type %v", typ)
			return
		}
		slices.Sort(fields)
		slices.Sort(have)
		if !slices.Equal(fields, have) {
			t.Errorf("%v has the fields\n%v, its policy names\n%v", typ, fields, have)
		}
	}
	for _, root := range []reflect.Type{
		reflect.TypeFor[container.CreateRequest](), reflect.TypeFor[container.UpdateConfig](), reflect.TypeFor[container.ExecOptions](), reflect.TypeFor[container.ExecStartOptions](),
		reflect.TypeFor[network.CreateRequest](), reflect.TypeFor[network.ConnectOptions](), reflect.TypeFor[network.DisconnectOptions](), reflect.TypeFor[volume.CreateOptions](),
		reflect.TypeFor[registry.AuthConfig](), reflect.TypeFor[checkpoint.CreateOptions](),
	} {
		walk(root)
	}
}

// TestUnnamedFieldIsRefused shows that a field without a rule is refused at run time as well.
func TestUnnamedFieldIsRefused(t *testing.T) {
	v := struct{ Old, New string }{New: "x"}
	err := (&judgement{}).enforce("Some", reflect.ValueOf(&v).Elem(), []fieldRule{{"Old", allow}})
	if err == nil || !strings.Contains(err.Error(), "Some.New") {
		t.Errorf("enforce says %v", err)
	}
}

func TestIsEmpty(t *testing.T) {
	yes, no := true, false
	zero := int64(0)
	for _, tt := range []struct {
		name  string
		value any
		want  bool
	}{
		{"no slice", []string(nil), true}, {"empty slice", []string{}, true}, {"slice", []string{""}, false}, {"map", map[string]string{"": ""}, false},
		{"false", no, true}, {"pointer to false", &no, true}, {"pointer to true", &yes, false}, {"pointer to zero", &zero, true}, {"string", "x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := isEmpty(reflect.ValueOf(tt.value)); got != tt.want {
				t.Errorf("isEmpty is %v", got)
			}
		})
	}
}
