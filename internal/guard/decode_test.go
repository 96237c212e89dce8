package guard

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
)

// FuzzCreate: whatever a client sends, what reaches the daemon is an unprivileged container of the
// build.
func FuzzCreate(f *testing.F) {
	for _, s := range []string{
		`{"Image":"img","HostConfig":{"Privileged":true}}`, `{"Image":"img","HostConfig":{"Binds":["/drone/src:/a","/:/b","data:/c","/x"]}}`,
		`{"Image":"img","HostConfig":{"NetworkMode":"container:db","PidMode":"container:db","VolumesFrom":["db"]}}`,
		`{"Image":"img","HostConfig":{"Mounts":[{"Type":"volume","Source":"data","Target":"/a","VolumeOptions":{"DriverConfig":{"Options":{"o":"bind"}}}}]}}`,
		`{"Image":"img","Volumes":{"/a":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"0.0.0.0"}]},"RestartPolicy":{"Name":"always"},"SecurityOpt":["no-new-privileges"]}}`,
		`{"Image":"img","NetworkingConfig":{"EndpointsConfig":{"inner":{"Aliases":["a"],"Links":["db:x"]}}},"HostConfig":{"NetworkMode":"inner"}}`,
	} {
		f.Add([]byte(s))
	}
	b := newFakeIn(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		b.daemon.forget()
		b.do(t, "POST", "/containers/create", string(text))
		s := b.daemon.last()
		if s == nil || !strings.HasSuffix(s.Path, "/containers/create") {
			return
		}
		var r container.CreateRequest
		if err := json.Unmarshal([]byte(s.Body), &r); err != nil {
			t.Fatal(err)
		}
		h := r.HostConfig
		switch {
		case h.Privileged, len(h.CapAdd) > 0, len(h.Devices) > 0, len(h.DeviceRequests) > 0, len(h.Sysctls) > 0, h.MaskedPaths != nil, h.ReadonlyPaths != nil, h.Runtime != "",
			len(h.Binds) > 0, len(r.Volumes) > 0, h.PublishAllPorts, h.CgroupParent != "", len(h.Annotations) > 0, h.NetworkMode == "host", h.NetworkMode == "bridge", h.NetworkMode == "default", h.NetworkMode == "",
			h.RestartPolicy.Name == "always", r.Labels[fakeOwner] != fakeID, r.Labels[LabelGuard] != fakeID, !strings.HasPrefix(s.Query, "name=drone-abc."):
			t.Errorf("reaches the daemon: %s %s", s.Query, s.Body)
		}
		for _, mode := range []string{string(h.PidMode), string(h.IpcMode), string(h.UTSMode), string(h.UsernsMode), string(h.CgroupnsMode), string(h.NetworkMode)} {
			if ref, ok := strings.CutPrefix(mode, "container:"); mode == "host" || ok && ref != idOwn && ref != idStep {
				t.Errorf("the mode %q reaches the daemon", mode)
			}
		}
		for _, m := range h.Mounts {
			switch {
			case m.Type == mount.TypeTmpfs, m.Type == mount.TypeImage:
			case m.Type == mount.TypeBind && (m.Source == "/guard.sock" || m.Source == "/guard.d"):
			case m.Type == mount.TypeVolume && (m.Source == "" && m.VolumeOptions.Labels[fakeOwner] == fakeID || m.Source == "drone-abc-workspace" || m.Source == "cache" && m.ReadOnly || strings.HasPrefix(m.Source, "drone-abc.")) && (m.VolumeOptions.DriverConfig == nil || len(m.VolumeOptions.DriverConfig.Options) == 0):
			default:
				t.Errorf("the mount %+v reaches the daemon", m)
			}
		}
		for port, list := range h.PortBindings {
			for _, p := range list {
				if p.HostIP != fakeGateway {
					t.Errorf("port %s is published on %q", port, p.HostIP)
				}
			}
		}
	})
}

// FuzzFilters: what goes to the daemon always asks for the stage's own label.
func FuzzFilters(f *testing.F) {
	for _, s := range []string{`{"name":["a"]}`, `{"label":{"a=b":true}}`, `{"label":["x"],"ancestor":["img"]}`, `{"before":["db"]}`, `{`, `[]`} {
		f.Add(s)
	}
	b := newFakeIn(f)
	f.Fuzz(func(t *testing.T, text string) {
		c := &call{g: b.Guard, query: map[string][]string{"filters": {text}}}
		up, mine, err := c.rewriteFilters(t.Context(), containerFilters)
		if err != nil {
			return
		}
		q, err := encodeFilters(c.query, restrict(up, LabelGuard, fakeID))
		if err != nil {
			t.Fatal(err)
		}
		sent, err := filters.FromJSON(q.Get("filters"))
		if err != nil {
			t.Fatal(err)
		}
		if !sent.ExactMatch("label", LabelGuard+"="+fakeID) || sent.Contains("name") || len(q) != 1 {
			t.Errorf("%q becomes %v", text, q)
		}
		for _, k := range append(sent.Keys(), mine.Keys()...) {
			if containerFilters[k] == 0 {
				t.Errorf("the filter %q passes", k)
			}
		}
	})
}
