package resource

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/drone/runner-go/manifest"
	"go.yaml.in/yaml/v3"
)

// Parse reads every document of a .drone.yml. The name is a path or label for findings. The File is
// never nil and holds whatever could be read; the findings, in the order of the file, say what
// couldn't, and an Error among them with no Pipeline concerns the whole file. Parse never panics.
func Parse(name string, data []byte) (*File, Findings) {
	f := &File{Name: name}
	found := &Collector{}
	if len(data) > MaxFile {
		found.Add(Finding{Severity: Error, Position: Position{1, 1}, Message: sizeError("").Error()})
	} else {
		docs, findings := split(data)
		for _, one := range findings {
			found.Add(one)
		}
		for _, doc := range docs {
			f.read(doc, found)
		}
		f.twice(found)
	}
	findings := found.Findings()
	for i := range findings {
		findings[i].File = name
	}
	return f, findings
}

// Sort puts findings into the order of the file, those without a place last. Findings of one place
// keep their order.
func (fs Findings) Sort() {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		if known := cmp.Compare(min(b.Line, 1), min(a.Line, 1)); known != 0 {
			return known
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// read adds one document to the file.
func (f *File) read(doc document, found *Collector) {
	parsed, failed := doc.parse()
	if failed != nil {
		found.Add(*failed)
		return
	}
	root, findings := grow(parsed, doc.line)
	add := func(more ...Finding) {
		for _, one := range append(findings, more...) {
			found.Add(one)
		}
	}
	if root.null() {
		add()
		return
	}
	if root.shape != object {
		add(Finding{Severity: Error, Position: root.at,
			Message: fmt.Sprintf("a document is a map of keys such as kind, name and steps, and this one is a %s", root.shape)})
		return
	}
	kind, kindType := root.text("kind"), root.text("type")
	switch {
	case kind == KindPipeline && (kindType == "" || kindType == TypeDocker):
		for i := range findings {
			findings[i].Pipeline = pipelineName(root)
		}
		add()
		f.Pipelines = append(f.Pipelines, newPipeline(root, found))
		return
	case kind == manifest.KindSecret:
		add()
		f.Secrets = append(f.Secrets, newSecret(root, found))
		return
	}
	other := Document{Kind: kind, Type: kindType, Name: root.text("name"), Position: root.at}
	if kind == KindPipeline {
		other.Name = pipelineName(root)
	}
	f.Others = append(f.Others, other)
	if kind != "" {
		misspelled(root, other, found)
		return
	}
	if p := root.find("pipeline"); p != nil && p.shape == object {
		add(Finding{Severity: Error, Position: root.at, Key: "pipeline",
			Message: "this is the syntax of Drone 0.8: write kind: pipeline, type: docker, a name, and under " +
				"steps a list of what stands under pipeline"})
		return
	}
	add(Finding{Severity: Warning, Position: root.at, Key: "kind", Refused: true,
		Message: "Drone's server refuses this: a document without kind, which is ignored here: write kind: " +
			"pipeline if it is one"})
}

// misspelled warns of a document that nobody runs, and that looks as if it were meant to be run: its
// kind or type is one of Drone's but for a slip. Drone takes both letter by letter.
func misspelled(root *node, other Document, found *Collector) {
	key, word, known := "kind", other.Kind, serverKinds
	if other.Kind == KindPipeline {
		key, word, known = "type", other.Type, runnerTypes
	}
	if slices.Contains(known, word) {
		return
	}
	best := nearest(word, known)
	if best == "" {
		return
	}
	f := Finding{Severity: Warning, Position: root.at, Key: key,
		Message: fmt.Sprintf("%q is nothing that Drone knows, and the document is ignored here: did you mean %s?", word, best)}
	if key == "type" {
		f.Pipeline = other.Name
		f.Message = fmt.Sprintf("no runner of Drone takes a pipeline of type %q, and it is ignored here: did you mean %s?", word, best)
	}
	found.Add(f)
}

// twice warns of pipelines that have the name of another one. Those of other runners count: names
// are the server's.
func (f *File) twice(found *Collector) {
	type named struct {
		name    string
		at, key Position
	}
	var all []named
	for _, p := range f.Pipelines {
		all = append(all, named{p.Name, p.Position, p.Place("name")})
	}
	for _, o := range f.Others {
		if o.Kind == KindPipeline {
			all = append(all, named{o.Name, o.Position, o.Position})
		}
	}
	slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.at.Line, b.at.Line) })
	first := map[string]Position{}
	for _, p := range all {
		if at, ok := first[p.name]; ok {
			found.Add(Finding{Severity: Warning, Position: p.key, Pipeline: p.name, Key: "name", Refused: true,
				Message: fmt.Sprintf("Drone's server refuses this: the pipeline in line %d has the same name, and "+
					"the first one counts: rename one of them", at.Line)})
			continue
		}
		first[p.name] = p.at
	}
}

// newSecret reads a document of kind secret.
func newSecret(root *node, found *Collector) *manifest.Secret {
	s := &manifest.Secret{}
	d := newDecoder(map[string]Position{}, found)
	d.object(root, "", schema{
		"version": d.text(&s.Version), "kind": d.text(&s.Kind), "type": d.text(&s.Type), "name": d.text(&s.Name),
		"data": d.text(&s.Data),
		"get": func(n *node, key string) {
			if !n.null() && d.isObject(n, key, "get: {path: …, name: …}") {
				d.object(n, key, schema{"path": d.text(&s.Get.Path), "name": d.text(&s.Get.Name),
					"key": d.text(&s.Get.Key)}, nil)
			}
		},
	}, nil)
	return s
}

// parse makes the YAML tree of the document, or says why there's none.
func (doc document) parse() (root *yaml.Node, failed *Finding) {
	if at, problem := doc.unreadable(); problem != "" {
		return nil, &Finding{Severity: Error, Position: at, Message: problem}
	}
	if indicators(doc.text) > maxIndicators {
		return nil, doc.problem(fmt.Errorf(
			"the document is too large, with more than %d line ends, commas, colons, dashes and brackets: split "+
				"it, or move scripts into files of the repository", maxIndicators))
	}
	// The library panics by design inside and recovers itself; whatever slips through is bad input
	// as well, and no reason to take a runner down.
	defer func() {
		if r := recover(); r != nil {
			root, failed = nil, doc.problem(fmt.Errorf("the YAML can't be read (%v)", r))
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(doc.text))
	var tree, more yaml.Node
	if err := dec.Decode(&tree); err != nil {
		return nil, doc.problem(err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("the document ends before its text does")
		}
		return nil, doc.problem(err)
	}
	if len(tree.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
	return tree.Content[0], nil
}

// yamlLine is how the YAML library begins an error.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// problem turns an error of the YAML library into a finding: with the line of the file instead of
// the document's, and with what usually helps.
func (doc document) problem(err error) *Finding {
	at := Position{Line: doc.line + 1, Column: 1}
	message := err.Error()
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		message = strings.TrimPrefix(message, m[0])
		if line, convErr := strconv.Atoi(m[1]); convErr == nil {
			at.Line = doc.line + min(line, max(1, bytes.Count(doc.text, []byte("\n"))))
		}
	}
	for _, a := range yamlAdvice {
		if strings.Contains(message, a.problem) {
			message += ": " + a.advice
			break
		}
	}
	return &Finding{Severity: Error, Position: at, Message: "YAML: " + message}
}

// yamlAdvice is what to do about the library's commonest errors.
var yamlAdvice = []struct{ problem, advice string }{
	{"mapping values are not allowed", "put a text that holds \": \" in quotes, and give the keys of one map the " +
		"same indentation"},
	{"cannot start any token", "indent with spaces, not tabs, and put a text that begins with @, ` or % in quotes"},
	{"did not find expected key", "give the keys of one map the same indentation, and close quotes"},
	{"did not find expected '-' indicator", "give the items of one list the same indentation"},
	{"did not find expected node content", "put a text that begins with a bracket, a brace or a comma in quotes"},
	{"unknown anchor", "define it above, in the same document, or put a text that begins with * in quotes"},
	{"unknown escape character", "use single quotes, in which a backslash is one"},
	{"found unexpected end of stream", "close the quotes or brackets"},
	{"could not find expected ':'", "a line among keys has no colon after its key: indent the text that belongs " +
		"to a key above, and close quotes"},
	{"did not find expected ',' or", "close the bracket or brace, and put texts that hold one in quotes"},
}
