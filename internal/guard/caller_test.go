package guard

import (
	"slices"
	"strings"
	"testing"
)

func TestContainersIn(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"v1", "9:name=systemd:/docker/" + a + "\n8:pids:/docker/" + a + "\n", []string{a}},
		{"v1, in a system container", "9:name=systemd:/docker/" + b + "/docker/" + a + "\n8:pids:/docker/" + b + "/docker/" + a + "\n", []string{a, b}},
		{"v2", "0::/docker/" + a + "\n", []string{a}},
		{"v2, systemd", "0::/system.slice/docker-" + a + ".scope\n", []string{a}},
		{"v2, systemd in a container", "0::/init.scope/system.slice/docker-" + b + ".scope/drone.slice/docker-" + a + ".scope\n", []string{a, b}},
		{"v2, from a namespace beside", "0::/../../docker/" + a + "\n", []string{a}},
		{"a parent of the runner's", "0::/drone-abcdef/" + a + "\n", []string{a}},
		{"no container", "0::/user.slice/user-1000.slice\n", nil},
		{"nothing", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := containersIn(tt.text); !slices.Equal(got, tt.want) {
				t.Errorf("finds %v, want %v", got, tt.want)
			}
		})
	}
}
