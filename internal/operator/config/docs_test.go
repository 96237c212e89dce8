package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the tests expect anew")

// The tables of docs/configuration.md are made of the fields of Config and their doc comments.
func TestDocumentation(t *testing.T) {
	const file, begin, end = "../../../docs/configuration.md", "<!-- begin: made by go test ./internal/operator/config -update -->\n", "<!-- end -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %q … %q", file, begin, end)
	}
	want := head + begin + tables(t) + end + tail
	if want == string(data) {
		return
	}
	if !*update {
		t.Fatalf("%s doesn't say what the code does: run go test ./internal/operator/config -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tables has one for each struct of Config.
func tables(t *testing.T) string {
	t.Helper()
	docs := comments(t)
	var b strings.Builder
	var parent reflect.Type
	for v := range variables(reflect.TypeFor[Config]()) {
		if v.parent != parent {
			parent = v.parent
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| variable | default | meaning |\n|---|---|---|\n", parent.Name(), sentence(parent.Name(), docs[parent.Name()]))
		}
		fallback := v.fallback
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		if v.required {
			fallback = "**required**"
		}
		doc := docs[parent.Name()+"."+v.field.Name]
		if doc == "" {
			t.Errorf("%s.%s has no comment", parent.Name(), v.field.Name)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, fallback, sentence(v.field.Name, doc))
	}
	b.WriteString("\n### Old names\n\nStill accepted, with a notice in the log; the new name wins.\n\n| old | new |\n|---|---|\n")
	for _, a := range aliases() {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", a.old, a.now)
	}
	b.WriteString("\n### Refused\n\n| variable | why |\n|---|---|\n")
	for _, name := range sortedNames(refused()) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, refused()[name])
	}
	return b.String() + "\n"
}

// comments are the doc comments of the types, and of their fields as Type.Field.
func comments(t *testing.T) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		docs[spec.Name.Name] = spec.Doc.Text()
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range field.Names {
				docs[spec.Name.Name+"."+name.Name] = field.Doc.Text()
			}
		}
		return true
	})
	return docs
}

// sentence is a doc comment in one line, without the "Name is" that Go wants at its beginning.
func sentence(name, doc string) string {
	text := strings.Join(strings.Fields(doc), " ")
	for _, start := range []string{name + " is ", name + " are ", name + " says ", name + " say "} {
		if rest, ok := strings.CutPrefix(text, start); ok {
			text = rest
			break
		}
	}
	if strings.HasPrefix(text, name+" ") && !strings.HasPrefix(text, name+" of ") && !strings.HasPrefix(text, name+" that ") {
		text = strings.TrimPrefix(text, name+" ")
	}
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
