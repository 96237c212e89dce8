// Package docs_test holds the documents to what they describe.
package docs_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what the tests generate in the documents")

const (
	module = "github.com/drone-runner-sysbox/drone-runner-sysbox/"
	table  = "docs/rooms_test.go"
)

// heavy are the modules that only packages with docker: true may link. They are nine tenths of what
// the program links, and everything that talks to a daemon.
var heavy = []string{
	"github.com/docker/docker",
	"github.com/google/nftables",
	"github.com/moby/buildkit",
	"google.golang.org/grpc",
}

// pkg is a package as go list describes it.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

// packages lists the packages of the module that have code beside tests, by their folder.
func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,GoFiles", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the packages: %v\n%s", err, stderr.String())
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("read what go list prints: %v", err)
		}
		if len(p.GoFiles) > 0 {
			all[strings.TrimPrefix(p.ImportPath, module)] = p
		}
	}
	return all
}

// TestImports compares the table of rooms with the code. Tests may import what they like.
func TestImports(t *testing.T) {
	all := packages(t)
	for folder, p := range all {
		r, ok := find(folder)
		if !ok {
			t.Errorf("package %s is in no row of %s: add\n\t{folder: %q, is: \"…\", may: []string{%s}},\n"+
				"and run `go test ./docs -update`", folder, table, folder, quoted(ours(p)))
			continue
		}
		if r.is == "" {
			t.Errorf("the row of %s in %s doesn't say what the package is", folder, table)
		}
		for _, missing := range subtract(ours(p), r.may) {
			t.Errorf("%s imports %s, which its row in %s doesn't allow: move the code to where it belongs, "+
				"or, if the arrow is right, add %q to the row's may", folder, missing, table, missing)
		}
		for _, unused := range subtract(r.may, ours(p)) {
			t.Errorf("%s no longer imports %s: remove %q from the may of its row in %s", folder, unused, unused, table)
		}
		linked := linkedHeavy(p)
		if !r.docker && len(linked) > 0 {
			t.Errorf("%s links %s, and its row in %s has no docker: true: "+
				"keep the Docker client out of it (`go mod why` and `go list -deps ./%s` show the way it comes in)",
				folder, strings.Join(linked, ", "), table, folder)
		}
		if r.docker && len(linked) == 0 {
			t.Errorf("%s links nothing of Docker any more: remove docker: true from its row in %s", folder, table)
		}
	}
	for _, r := range rooms {
		if _, ok := all[r.folder]; !ok {
			t.Errorf("the row of %s in %s is of no package: remove it", r.folder, table)
		}
	}
}

// TestTestPackages keeps what exists for tests out of the program.
func TestTestPackages(t *testing.T) {
	for _, r := range rooms {
		for _, imported := range r.may {
			if other, _ := find(imported); other.tests && !r.tests {
				t.Errorf("%s imports %s, which is for tests: the program must not contain it", r.folder, imported)
			}
		}
	}
}

// TestPicture compares the generated part of docs/architecture.md with the table.
func TestPicture(t *testing.T) {
	const file = "architecture.md"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- begin: made by go test ./docs -update -->\n"), []byte("<!-- end -->")
	head, rest, ok := bytes.Cut(have, begin)
	if !ok {
		t.Fatalf("docs/%s has no line %q", file, begin)
	}
	_, tail, ok := bytes.Cut(rest, end)
	if !ok {
		t.Fatalf("docs/%s has no line %q", file, end)
	}
	want := slices.Concat(head, begin, []byte(picture()), end, tail)
	if bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatalf("the table of rooms in docs/%s is out of date: run `go test ./docs -update`", file)
	}
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

var pointer = regexp.MustCompile("(?m)^\\| .* \\| `([^`]+)` \\| `([^`]+)` \\|$")

// TestPointers looks for what "Where is X decided?" points at.
func TestPointers(t *testing.T) {
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Where is X decided?\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := pointer.FindAllStringSubmatch(section, -1)
	if len(found) < 20 {
		t.Fatalf("docs/architecture.md has %d pointers of the form | question | `folder` | `name` |", len(found))
	}
	for _, p := range found {
		if folder, name := p[1], p[2]; !declares(t, filepath.Join("..", folder), name) {
			t.Errorf("docs/architecture.md says that %s is declared in %s or below, and it isn't: "+
				"name the place where this is decided now in the row\n%s", name, folder, p[0])
		}
	}
}

// declares reports whether a Go file in a folder or below declares a name, as a method or at the
// top.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || found || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = slices.ContainsFunc(file.Decls, func(d ast.Decl) bool { return slices.Contains(names(d), name) })
		return nil
	})
	if err != nil {
		t.Errorf("look for %s: %v", name, err)
	}
	return found
}

// names are what a declaration declares.
func names(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []string{d.Name.Name}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				out = append(out, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					out = append(out, n.Name)
				}
			}
		}
		return out
	}
	return nil
}

// picture draws the rooms: a diagram of the program's packages, and a table of all.
func picture() string {
	var out strings.Builder
	out.WriteString("\n```mermaid\nflowchart TD\n")
	for _, r := range rooms {
		if r.tests || r.folder == "cmd/drone-runner-sysbox" {
			continue
		}
		fmt.Fprintf(&out, "  %s[%s]\n", node(r.folder), r.folder)
	}
	for _, r := range rooms {
		if r.tests || r.folder == "cmd/drone-runner-sysbox" {
			continue
		}
		for _, to := range direct(r) {
			fmt.Fprintf(&out, "  %s --> %s\n", node(r.folder), node(to))
		}
	}
	out.WriteString("```\n\n| package | purpose | imports, of ours | links Docker |\n|---|---|---|---|\n")
	for _, r := range rooms {
		docker := ""
		if r.docker {
			docker = "yes"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", r.folder, r.is, short(r.may), docker)
	}
	out.WriteString("\n")
	return out.String()
}

// direct are the imports of a room that none of its other imports has too: the arrows to draw.
func direct(r room) []string {
	return slices.DeleteFunc(slices.Clone(r.may), func(to string) bool {
		return slices.ContainsFunc(r.may, func(via string) bool { return via != to && reaches(via, to) })
	})
}

func reaches(from, to string) bool {
	r, _ := find(from)
	return slices.ContainsFunc(r.may, func(next string) bool { return next == to || reaches(next, to) })
}

func node(folder string) string {
	return strings.NewReplacer("/", "_", "-", "_").Replace(folder)
}

func short(folders []string) string {
	if len(folders) == 0 {
		return "–"
	}
	var out []string
	for _, f := range folders {
		out = append(out, "`"+strings.TrimPrefix(f, "internal/")+"`")
	}
	return strings.Join(out, ", ")
}

func find(folder string) (room, bool) {
	i := slices.IndexFunc(rooms, func(r room) bool { return r.folder == folder })
	if i < 0 {
		return room{}, false
	}
	return rooms[i], true
}

// ours are the imports of a package that are of this module, as folders.
func ours(p pkg) []string {
	var out []string
	for _, i := range p.Imports {
		if folder, ok := strings.CutPrefix(i, module); ok {
			out = append(out, folder)
		}
	}
	return out
}

func linkedHeavy(p pkg) []string {
	var out []string
	for _, h := range heavy {
		if slices.ContainsFunc(p.Deps, func(d string) bool { return d == h || strings.HasPrefix(d, h+"/") }) {
			out = append(out, h)
		}
	}
	return out
}

func subtract(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func quoted(s []string) string {
	var out []string
	for _, one := range s {
		out = append(out, fmt.Sprintf("%q", one))
	}
	return strings.Join(out, ", ")
}
