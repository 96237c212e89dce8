package guard

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
)

func TestDecodeStrict(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string // part of the error; "" decodes
	}{
		{"plain", `{"Image":"a","HostConfig":{"Memory":1}}`, ""},
		{"another case", `{"image":"a","hostConfig":{"memory":1}}`, ""},
		{"labels in two cases are two", `{"Labels":{"a":"1","A":"2"}}`, ""},
		{"a label twice", `{"Labels":{"a":"1","a":"2"}}`, "comes twice"},
		{"unknown in a list", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","Sauce":"x"}]}}`, "no such field"},
		{"twice in a list", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","type":"bind"}]}}`, "comes twice"},
		{"twice in a map's struct", `{"NetworkingConfig":{"EndpointsConfig":{"a":{"Aliases":[],"aliases":[]}}}}`, "comes twice"},
		{"unknown but null", `{"Nope" : null}`, ""},
		{"unknown, ignored by name", `{"DiskQuota":5}`, ""},
		{"a command as a string", `{"Cmd":"true"}`, ""},
		{"empty", ``, "EOF"},
		{"null", `null`, ""},
		{"a list", `[]`, "invalid JSON"},
		{"cut off", `{"Image":"a"`, "invalid JSON"},
		{"cut off in a list", `{"Env":["a"`, "invalid JSON"},
		{"two values", `{}{}`, "there is more"},
		{"garbage after", `{} x`, "there is more"},
		{"deep", `{"Labels":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 101), "nested deeper"},
		{"wrong type", `{"Image":{}}`, "invalid JSON"},
		{"not UTF-8", "{\"Image\":\"\xff\"}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r container.CreateRequest
			err := decodeStrict([]byte(tt.text), &r, createIgnored...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("decodes with %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// FuzzDecode: what is decoded and encoded anew means the same when it's read again, and no text is a panic.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"Image":"a","HostConfig":{"Privileged":true,"privileged":false}}`, `{"Labels":{"a":"b"}}`, `{"HostConfig":{"Mounts":[{"Type":"bind"}]}}`, `{"Cmd":"x"}`, `{} {}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, again container.CreateRequest
		if decodeStrict(text, &r, createIgnored...) != nil {
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("what was decoded can't be encoded: %v", err)
		}
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		b2, err := json.Marshal(again)
		if err != nil || string(b) != string(b2) {
			t.Errorf("%s\nbecomes\n%s", b, b2)
		}
	})
}

// FuzzCreate: whatever a client sends, what reaches the daemon is an unprivileged container of the build.
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

// FuzzFilters: what goes to the daemon always asks for the build's own label.
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

// FuzzNames: scoping is undone by unscoping, never leaves the build's own names, and happens once.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"db", "drone-abc.db", "drone-abc.drone-abc.x", "a..b", "/x", "", "\xa4rone-abc.", `\\\ufffdrone-abc.`, "\xff\xffrone-abc.", "\x1drone-abc.", "\x1ddrone-abc."} {
		f.Add(s)
	}
	n := names{prefix: "drone-abc.", network: "drone-abc"}
	f.Fuzz(func(t *testing.T, name string) {
		real := n.scope(name)
		if !n.scoped(real) || n.scope(n.scope("x"+name)) != n.scope("x"+name) {
			t.Errorf("%q becomes %q", name, real)
		}
		if nameable(name) && (!nameable(real) && len(real) <= 255 || !strings.Contains(name, n.prefix) && n.unscope(real) != name) {
			t.Errorf("%q becomes %q becomes %q", name, real, n.unscope(real))
		}
		text, _ := json.Marshal(map[string]string{"Name": real})
		var back map[string]string
		if err := json.Unmarshal(n.answer(text), &back); err != nil {
			t.Errorf("%s is no JSON: %v", n.answer(text), err)
		}
	})
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
