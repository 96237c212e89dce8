package livelog

// matcher finds every occurrence of a set of texts in one pass over a stream, however long and
// alike the texts are: the automaton of Aho and Corasick ("Efficient string matching", 1975). It is
// immutable once made, so any number of streams may share one.
//
// Its memory grows with the length of the texts, not times the alphabet: a state keeps a list of
// children, of which most have one.
type matcher struct {
	nodes []node
	// root is where each byte leads from the state in which nothing is matched.
	root [256]int32
	// pairs has a bit for each pair of bytes that a text begins with. Ordinary text is skipped by
	// it without touching the automaton.
	pairs [1 << 16 / 64]uint64
}

// node is a state: the longest end of the stream that is the beginning of a text.
type node struct {
	child, sibling int32 // 0: none, since the root is nobody's child
	fail           int32 // the state of the next shorter end of the stream that begins a text
	depth          int32 // bytes of that beginning
	match          int32 // bytes of the longest text that ends here, 0: none does
	b              byte  // the byte that leads here from the parent
}

// newMatcher is the matcher for texts of at least minSecret bytes each; nil if there are none.
func newMatcher(texts []string) *matcher {
	if len(texts) == 0 {
		return nil
	}
	m := &matcher{nodes: make([]node, 1)}
	for _, text := range texts {
		m.add(text)
	}
	m.link()
	return m
}

// add puts a text into the tree.
func (m *matcher) add(text string) {
	s := int32(0)
	for i := range len(text) {
		next := m.child(s, text[i])
		if next == 0 {
			next = int32(len(m.nodes))
			m.nodes = append(m.nodes, node{b: text[i], depth: int32(i + 1), sibling: m.nodes[s].child})
			m.nodes[s].child = next
		}
		s = next
	}
	m.nodes[s].match = int32(len(text))
	pair := int(text[0])<<8 | int(text[1])
	m.pairs[pair/64] |= 1 << (pair % 64)
}

// link sets where each state falls back to, and the matches that come by falling back; breadth
// first, as each depends on shorter ones.
func (m *matcher) link() {
	var queue []int32
	for c := m.nodes[0].child; c != 0; c = m.nodes[c].sibling {
		m.root[m.nodes[c].b] = c
		queue = append(queue, c)
	}
	for i := 0; i < len(queue); i++ {
		s := queue[i]
		for c := m.nodes[s].child; c != 0; c = m.nodes[c].sibling {
			n := &m.nodes[c]
			n.fail = m.step(m.nodes[s].fail, n.b)
			n.match = max(n.match, m.nodes[n.fail].match)
			queue = append(queue, c)
		}
	}
}

// child is the state that b leads to within the tree, or 0.
func (m *matcher) child(s int32, b byte) int32 {
	for c := m.nodes[s].child; c != 0; c = m.nodes[c].sibling {
		if m.nodes[c].b == b {
			return c
		}
	}
	return 0
}

// step is the state after b.
func (m *matcher) step(s int32, b byte) int32 {
	for s != 0 {
		if c := m.child(s, b); c != 0 {
			return c
		}
		s = m.nodes[s].fail
	}
	return m.root[b]
}

// begins reports whether some text begins with these two bytes.
func (m *matcher) begins(a, b byte) bool {
	pair := int(a)<<8 | int(b)
	return m.pairs[pair/64]&(1<<(pair%64)) != 0
}
