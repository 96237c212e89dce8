package policy

import "testing"

func TestFindMount(t *testing.T) {
	c := Caller{Mounts: []Mount{
		{Name: "ws", Destination: "/drone/src", RW: true}, {Name: "sub", Destination: "/drone/src/sub", RW: true}, {Name: "cache", Destination: "/cache", RW: true},
		{Name: "cache", Destination: "/cache"}, {Name: "x", Destination: "/x"}, {Name: "y", Destination: "/x"},
	}}
	for _, tt := range []struct {
		path, name, rel string
		rw, found, bad  bool
	}{
		{"/drone/src", "ws", "", true, true, false},
		{"/drone/src/a/b", "ws", "a/b", true, true, false},
		{"/drone/src/sub/b", "sub", "b", true, true, false},
		{"/drone/src/subway", "ws", "subway", true, true, false},
		{"/drone/srcs", "", "", false, false, false},
		{"/drone", "", "", false, false, false},
		{"/", "", "", false, false, false},
		{"/cache/npm", "cache", "npm", false, true, false}, // two steps have it, one read-only
		{"/x/a", "", "", false, false, true},               // two steps have different things there
	} {
		t.Run(tt.path, func(t *testing.T) {
			m, rel, found, err := c.find(tt.path)
			if (err != nil) != tt.bad {
				t.Fatal(err)
			}
			if err == nil && (found != tt.found || found && (m.Name != tt.name || rel != tt.rel || m.RW != tt.rw)) {
				t.Errorf("finds %+v %q %v", m, rel, found)
			}
		})
	}
}
