package guard

import "testing"

func TestDefaultNetworkFields(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"filled in", `{"NetworkSettings":{"Bridge":"","Gateway":"","IPAddress":"","IPPrefixLen":0,"MacAddress":"","Networks":{"net":{"Gateway":"1.2.3.1","IPAddress":"1.2.3.4","IPPrefixLen":16,"MacAddress":"02:42"}}}}`,
			`{"NetworkSettings":{"Bridge":"","Gateway":"1.2.3.1","IPAddress":"1.2.3.4","IPPrefixLen":16,"MacAddress":"02:42","Networks":{"net":{"Gateway":"1.2.3.1","IPAddress":"1.2.3.4","IPPrefixLen":16,"MacAddress":"02:42"}}}}`},
		{"of a version without them", `{"NetworkSettings":{"Networks":{"net":{"IPAddress":"1.2.3.4"}}}}`, `{"NetworkSettings":{"Networks":{"net":{"IPAddress":"1.2.3.4"}}}}`},
		{"on another network", `{"NetworkSettings":{"IPAddress":"","Networks":{"other":{"IPAddress":"1.2.3.4"}}}}`, `{"NetworkSettings":{"IPAddress":"","Networks":{"other":{"IPAddress":"1.2.3.4"}}}}`},
		{"a name elsewhere", `{"Labels":{"net":{}},"NetworkSettings":{"IPAddress":"","Networks":{}}}`, `{"Labels":{"net":{}},"NetworkSettings":{"IPAddress":"","Networks":{}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := withDefaultNetwork([]byte(tt.text), "net")
			if err != nil || string(got) != tt.want {
				t.Errorf("becomes %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}
