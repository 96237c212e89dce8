package resource

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// shape is what a node is.
type shape int

const (
	scalar shape = iota
	list
	object
)

// String names the shape for messages.
func (s shape) String() string { return [...]string{"text", "list", "map"}[s] }

// node is a YAML value with its aliases and merge keys resolved, so that a decoder meets nothing
// but texts, lists and maps.
type node struct {
	shape shape
	// at is where the value is written; for an alias, where the alias is.
	at Position
	// scalar is the YAML library's node, for its value and tag.
	scalar *yaml.Node
	items  []*node
	// fields in the order in which they apply, so the last one of a key wins.
	fields []field
	// held is set for a value that has an anchor or holds one in use: it may be there for its
	// aliases alone.
	held bool
	// notes are oddities of the map itself, which its reader reports.
	notes []note
}

// field is one key of a map. A key that came in by << has the place where it is written.
type field struct {
	key   string
	name  *yaml.Node
	at    Position
	value *node
}

// note is a warning about one key of a map.
type note struct {
	key     string
	at      Position
	message string
}

// find is the value of a key, or nil.
func (n *node) find(key string) *node {
	for i := len(n.fields) - 1; i >= 0; i-- {
		if n.fields[i].key == key {
			return n.fields[i].value
		}
	}
	return nil
}

// text is the scalar of a key as written, or "".
func (n *node) text(key string) string {
	if v := n.find(key); v != nil && v.shape == scalar && !v.null() {
		return v.scalar.Value
	}
	return ""
}

// null reports whether the value is YAML's null, an absent one included.
func (n *node) null() bool { return n.shape == scalar && resolve(n.scalar) == nil }

// nothing reports whether Drone's library makes no value at all of a null, but leaves its place
// empty: in the spellings that people use it does, Null and NULL are an empty value to it.
func (n *node) nothing() bool {
	return n.null() && (n.scalar.ShortTag() == "!!null" && n.scalar.Style&yaml.TaggedStyle != 0 ||
		n.scalar.Value == "" || n.scalar.Value == "~" || n.scalar.Value == "null")
}

// grower makes the tree of one document.
type grower struct {
	line     int
	findings Findings
	// used are the nodes that an alias points to.
	used map[*yaml.Node]bool
	// open are the aliased nodes that are being grown, to find those that contain themselves.
	open map[*yaml.Node]bool
	// aliased and bytes are what the aliases have stood for so far.
	aliased, bytes int
	failed         bool
}

// grow resolves the aliases and merge keys of a document. A document that contains itself, is
// nested too deep or grows too large by its aliases is cut off there, with an Error.
func grow(root *yaml.Node, line int) (*node, Findings) {
	g := &grower{line: line, used: map[*yaml.Node]bool{}, open: map[*yaml.Node]bool{}}
	g.mark(root)
	n := g.node(root, 0)
	return n, g.findings
}

// mark notes which nodes aliases point to. The YAML library bounds the depth of the document.
func (g *grower) mark(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		g.used[n.Alias] = true
	}
	for _, c := range n.Content {
		g.mark(c)
	}
}

func (g *grower) place(n *yaml.Node) Position {
	return Position{Line: n.Line + g.line, Column: n.Column}
}

// fail reports what is wrong with the document as a whole, once: whatever follows is an echo.
func (g *grower) fail(at Position, format string, args ...any) *node {
	if !g.failed {
		g.failed = true
		g.findings = append(g.findings, Finding{Severity: Error, Position: at, Message: fmt.Sprintf(format, args...)})
	}
	return nothing(at)
}

// nothing is a null value.
func nothing(at Position) *node {
	return &node{at: at, scalar: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}}
}

func (g *grower) node(n *yaml.Node, depth int) *node {
	at := g.place(n)
	if depth > maxDepth {
		return g.fail(at, "lists and maps are nested more than %d deep", maxDepth)
	}
	if len(g.open) > 0 && !g.count(1, len(n.Value)) {
		return g.tooLarge(at)
	}
	if g.failed {
		return nothing(at)
	}
	out := &node{at: at, held: n.Anchor != "" || g.used[n]}
	switch n.Kind {
	case yaml.AliasNode:
		if g.open[n.Alias] {
			return g.fail(at, "anchor &%s contains its own alias *%s: remove the alias", n.Value, n.Value)
		}
		g.open[n.Alias] = true
		grown := *g.node(n.Alias, depth)
		delete(g.open, n.Alias)
		grown.at, grown.held = at, false
		return &grown
	case yaml.SequenceNode:
		out.shape = list
		for _, c := range n.Content {
			item := g.node(c, depth+1)
			out.items = append(out.items, item)
			out.held = out.held || item.held
		}
	case yaml.MappingNode:
		out.shape = object
		g.fields(out, n, depth)
	default:
		out.scalar = n
	}
	return out
}

// count adds to what aliases stand for, and reports whether that is still allowed.
func (g *grower) count(values, bytes int) bool {
	g.aliased += values
	g.bytes += bytes
	return g.aliased <= maxAliased && g.bytes <= maxAliasedBytes
}

func (g *grower) tooLarge(at Position) *node {
	return g.fail(at, "the aliases of this document stand for more than %d values, or for texts of more than %d "+
		"KiB: write fewer, or smaller ones",
		maxAliased, maxAliasedBytes>>10)
}

// fields grows a map. Where a key stands twice, by itself or by <<, the later one counts, as in
// Drone: YAML's own rule, that a map's own keys prevail wherever its << stands, is not what
// pipelines have been tested with. It is noted.
func (g *grower) fields(out *node, n *yaml.Node, depth int) {
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, at := n.Content[i], g.place(n.Content[i])
		value := g.node(n.Content[i+1], depth+1)
		out.held = out.held || value.held
		if merges(name) {
			merged := g.merged(value, at)
			if !g.count(len(merged), 0) {
				g.tooLarge(at)
				return
			}
			for _, f := range merged {
				if own[f.key] {
					out.notes = append(out.notes, note{f.key, at,
						fmt.Sprintf("<< below the key overrides it, in Drone as well: put << above %s for its own "+
							"value to count", f.key)})
				}
				out.fields = append(out.fields, f)
			}
			continue
		}
		if name.Kind == yaml.AliasNode {
			name = name.Alias
		}
		if name.Kind != yaml.ScalarNode {
			g.fail(at, "the key of a map is itself a list or a map: a brace or a bracket that belongs to a text "+
				"needs quotes")
			continue
		}
		if own[name.Value] {
			text := "the key stands twice in the same map, and the later one counts: remove one of them"
			if value.shape == object {
				text = "the key stands twice in the same map, and what they hold is put together, the later one " +
					"counting: write it once"
			}
			out.notes = append(out.notes, note{name.Value, at, text})
		}
		own[name.Value] = true
		out.fields = append(out.fields, field{key: name.Value, name: name, at: at, value: value})
	}
}

// merged are the fields that a << brings in. Of a list of maps the earlier ones count, so they come
// last.
func (g *grower) merged(value *node, at Position) []field {
	var out []field
	switch value.shape {
	case object:
		out = value.fields
	case list:
		for i := len(value.items) - 1; i >= 0; i-- {
			if value.items[i].shape != object {
				g.fail(value.items[i].at, "<< takes a map, or a list of maps: write <<: *anchor, or <<: [*one, *other]")
				return nil
			}
			out = append(out, value.items[i].fields...)
		}
	default:
		g.fail(at, "<< takes a map, or a list of maps: write <<: *anchor, or <<: [*one, *other]")
	}
	return out
}

// merges reports whether a key is YAML's merge key, which it is only without quotes.
func merges(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "<<" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 &&
		(n.Tag == "" || n.ShortTag() == "!!merge")
}
