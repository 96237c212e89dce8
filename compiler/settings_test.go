package compiler

import (
	"testing"
	"time"
)

func TestExpandPath(t *testing.T) {
	t.Setenv("RPC_SECRET", "of the runner")
	for value, want := range map[string]string{
		"/a:$PATH": "/a:" + defaultPath, "${PATH}:/a": defaultPath + ":/a", "$PATH:$PATH": defaultPath + ":" + defaultPath, "$PATHS": "$PATHS", "$PATH_": "$PATH_",
		"$RPC_SECRET:${RPC_SECRET}": "$RPC_SECRET:${RPC_SECRET}", "": "", "$": "$", "$PATH": defaultPath,
	} {
		if got := expandPath(value); got != want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value any
		want  string
	}{
		{"nil", nil, ""},
		{"text", "a b", "a b"},
		{"bool", true, "true"},
		{"int", 42, "42"},
		{"int64", int64(-1), "-1"},
		{"uint64", uint64(1 << 63), "9223372036854775808"},
		{"float", 1.5, "1.5"},
		{"large float", 1e21, "1000000000000000000000"},
		{"time", time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), "2020-01-02T03:04:05Z"},
		{"list", []any{"a", 1, true, nil, 1.5}, "a,1,true,,1.5"},
		{"empty list", []any{}, ""},
		{"list of lists", []any{[]any{1}, "a"}, `[[1],"a"]`},
		{"a list of scalars, then a map", []any{"a", map[string]any{"b": 1}}, `["a",{"b":1}]`},
		{"map", map[string]any{"b": []any{1, "<&>"}, "a": nil}, `{"a":null,"b":[1,"<&>"]}`},
		{"map of any", map[any]any{1: map[any]any{true: "x"}}, `{"1":{"true":"x"}}`},
		{"odd key", map[any]any{[2]int{1, 2}: "x"}, `{"[1 2]":"x"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := encode(tt.value); err != nil || got != tt.want {
				t.Errorf("%q (%v), want %q", got, err, tt.want)
			}
		})
	}
}
