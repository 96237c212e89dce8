package strictjson

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
)

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string // part of the error; "" decodes
		dropped    string
	}{
		{"plain", `{"Image":"a","HostConfig":{"Memory":1}}`, "", ""},
		{"another case", `{"image":"a","hostConfig":{"memory":1}}`, "", ""},
		{"labels in two cases are two", `{"Labels":{"a":"1","A":"2"}}`, "", ""},
		{"a label twice", `{"Labels":{"a":"1","a":"2"}}`, "comes twice", ""},
		{"unknown in a list", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","Sauce":"x"}]}}`, "", "HostConfig.Mounts[0].Sauce"},
		{"twice in a list", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","type":"bind"}]}}`, "comes twice", ""},
		{"twice in a map's struct", `{"NetworkingConfig":{"EndpointsConfig":{"a":{"Aliases":[],"aliases":[]}}}}`, "comes twice", ""},
		{"unknown but null", `{"Nope" : null}`, "", ""},
		{"unknown", `{"DiskQuota":5,"HostConfig":{"B":{"c":[{"d":1,"D":2}]}}}`, "", "DiskQuota HostConfig.B"},
		{"unknown, twice", `{"Nope":1,"nope":2}`, "", "Nope nope"},
		{"unknown, too often", `{"HostConfig":{` + strings.Repeat(`"Nope":1,`, 600) + `"Nope":1}}`, "more than 512", ""},
		{"unknown, deep", `{"Nope":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, "nested deeper", ""},
		{"unknown, in a place of a known name", `{"Privileged":true}`, "", "Privileged"},
		{"twice the same", `{"Image":"a","Image":"a"}`, "", ""},
		{"twice the same in a map", `{"Labels":{"a":"1","a":"1"}}`, "", ""},
		{"twice and different", `{"HostConfig":{"Privileged":false,"Privileged":true}}`, "comes twice", ""},
		{"twice the same, in two spellings", `{"Image":"a","image":"a"}`, "two spellings", ""},
		{"two spellings of which one is no letter of ASCII's", `{"HostConfig":{"Privileged":false,"HostConfig":1},"HoſtConfig":{"Privileged":true}}`, "two spellings", ""},
		{"a command as a string", `{"Cmd":"true"}`, "", ""},
		{"empty", ``, "EOF", ""},
		{"null", `null`, "", ""},
		{"a list", `[]`, "invalid JSON", ""},
		{"cut off", `{"Image":"a"`, "invalid JSON", ""},
		{"cut off in a list", `{"Env":["a"`, "invalid JSON", ""},
		{"two values", `{}{}`, "there is more", ""},
		{"garbage after", `{} x`, "there is more", ""},
		{"deep", `{"Labels":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 101), "nested deeper", ""},
		{"wrong type", `{"Image":{}}`, "invalid JSON", ""},
		{"not UTF-8", "{\"Image\":\"\xff\"}", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r container.CreateRequest
			dropped, err := Decode([]byte(tt.text), &r)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("decodes with %v, want an error with %q", err, tt.want)
			}
			if got := strings.Join(dropped, " "); got != tt.dropped {
				t.Errorf("drops %q, want %q", got, tt.dropped)
			}
		})
	}
}

// FuzzDecode: what is decoded and encoded anew means the same when it's read again, and no text is
// a panic.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"Image":"a","HostConfig":{"Privileged":true,"privileged":false}}`, `{"Labels":{"a":"b"}}`, `{"HostConfig":{"Mounts":[{"Type":"bind"}]}}`, `{"Cmd":"x"}`, `{} {}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, again container.CreateRequest
		if _, err := Decode(text, &r); err != nil {
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
