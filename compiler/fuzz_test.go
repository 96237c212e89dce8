package compiler

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// FuzzCompile holds that whatever parses compiles or is refused, and that what compiles is sound.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, plain bool) {
		file, _ := resource.Parse("fuzz.yml", data)
		for _, p := range file.Pipelines {
			c, a := testCompiler(), testArgs()
			if !plain {
				for _, name := range []string{"volumes_operator", "plugins_docker", "limits_operator", "networks_operator", "netrc"} {
					setups[name](c, &a)
				}
			}
			a.Pipeline, a.Manifest = p, file.Manifest()
			if spec, err := c.Compile(t.Context(), a); err == nil {
				checkInvariants(t, spec)
			}
		}
	})
}
