package conditions

import (
	"errors"
	"fmt"
	"iter"
	"sort"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// maxBody is the largest request body in bytes that plugins read, itself
// included: the default of express.json, which createPermissionIntegrationRouter
// of @backstage/plugin-permission-node 0.11.6 leaves as it is.
const maxBody = 100 << 10

// The pieces of a body: {"items":[{"id":"0","resourceRef":…,"resourceType":…,"conditions":…},…]}.
const (
	bodyStart = `{"items":[`
	itemStart = `{"id":"`
	itemRef   = `","resourceRef":`
	bodyEnd   = `]}`
)

// batch is the questions of one Apply, sorted by plugin and freed of repetition.
type batch struct {
	places    []place // by question
	inquiries []*inquiry
}

// place says where the answer to a question will be.
type place struct {
	inquiry *inquiry
	group   *group
	refs    []int // the question's refs as indexes into the group's
	err     error // why the question is not asked
}

// inquiry is everything that one plugin is asked.
type inquiry struct {
	pluginID string
	groups   []*group
	byTail   map[string]*group
	scratch  []byte // to write a tail in
	err      error  // how asking went
}

// group is one tree of conditions and the distinct refs it is asked about.
type group struct {
	conditions   criteria.Criteria
	resourceType string
	tail         string // what follows the ref in an item
	refs         refList
	results      []wire.Result // by ref, Deny until answered
}

// refList is refs as JSON strings with commas between them.
type refList struct {
	json []byte
	ends []int // by ref, the offset behind it
}

// span is the refs from ≤ i < to of a group: one item of a call.
type span struct {
	group    *group
	from, to int
}

// call is one request body. Its items' ids are their indexes in spans.
type call struct {
	body  []byte
	spans []span
}

func newBatch(questions []Question) *batch {
	total := 0
	for _, q := range questions {
		total += len(q.Refs)
	}
	b := &batch{places: make([]place, len(questions))}
	indexes := make([]int, 0, total)
	plugins := map[string]*inquiry{}
	type asked struct {
		group *group
		ref   string
	}
	known := make(map[asked]int, total)
	for i, q := range questions {
		p := &b.places[i]
		if p.err = askable(q.Decision); p.err != nil || len(q.Refs) == 0 {
			continue
		}
		p.inquiry = b.inquiry(plugins, q.Decision.PluginID)
		p.group = p.inquiry.group(q.Decision)
		first := len(indexes)
		for _, ref := range q.Refs {
			index, ok := known[asked{p.group, ref}]
			if !ok {
				if index, p.err = p.group.add(q.Decision.PluginID, ref); p.err != nil {
					break
				}
				known[asked{p.group, ref}] = index
			}
			indexes = append(indexes, index)
		}
		p.refs = indexes[first:]
	}
	return b
}

// askable refuses what can only be a mistake of ours: other decisions, and
// conditions that are constant, are answered without a plugin.
func askable(d wire.Decision) error {
	if d.Result != wire.Conditional || d.Conditions.Op == criteria.Never || d.Conditions.Op == criteria.Always {
		return errors.New("conditions: asked about a decision without conditions")
	}
	return nil
}

func (b *batch) inquiry(plugins map[string]*inquiry, id string) *inquiry {
	in := plugins[id]
	if in == nil {
		in = &inquiry{pluginID: id, byTail: map[string]*group{}}
		plugins[id] = in
		b.inquiries = append(b.inquiries, in)
	}
	return in
}

func (in *inquiry) group(d wire.Decision) *group {
	// Decisions are remembered where they are made, so equal ones mostly share
	// their tree, which is quicker to see than to write and compare.
	for _, g := range in.groups[max(0, len(in.groups)-8):] {
		if g.resourceType == d.ResourceType && sameTree(g.conditions, d.Conditions) {
			return g
		}
	}
	in.scratch = appendTail(in.scratch[:0], d)
	g := in.byTail[string(in.scratch)]
	if g == nil {
		g = &group{conditions: d.Conditions, resourceType: d.ResourceType, tail: string(in.scratch)}
		in.byTail[g.tail] = g
		in.groups = append(in.groups, g)
	}
	return g
}

func appendTail(b []byte, d wire.Decision) []byte {
	b = append(b, `,"resourceType":`...)
	b, _ = jsontext.AppendQuote(b, d.ResourceType) // ill-formed text becomes U+FFFD, which no type has
	b = append(b, `,"conditions":`...)
	return append(d.Conditions.AppendJSON(b), '}')
}

// sameTree reports whether a and b are one tree in memory.
func sameTree(a, b criteria.Criteria) bool {
	return a.Op == b.Op && a.Rule == b.Rule && len(a.Of) == len(b.Of) && (len(a.Of) == 0 || &a.Of[0] == &b.Of[0])
}

// add returns the index of a new ref. It refuses a ref that does not fit into a
// call alone, and one that JSON cannot carry as it is.
func (g *group) add(pluginID, ref string) (int, error) {
	r := &g.refs
	old := len(r.json)
	if old > 0 {
		r.json = append(r.json, ',')
	}
	start := len(r.json)
	var err error
	r.json, err = jsontext.AppendQuote(r.json, ref)
	if err != nil {
		r.json = r.json[:old]
		return 0, &guard.RefusedError{PluginID: pluginID, Reason: "a resource ref is not valid UTF-8"}
	}
	size := len(bodyStart) + itemOverhead(0) + len(r.json) - start + len(g.tail) + len(bodyEnd)
	if size > maxBody {
		r.json = r.json[:old]
		return 0, &guard.RefusedError{PluginID: pluginID, Reason: fmt.Sprintf(
			"conditions and resource ref come to %d bytes in a call, and the plugin reads at most %d", size, maxBody)}
	}
	r.ends = append(r.ends, len(r.json))
	return len(r.ends) - 1, nil
}

// itemOverhead is the size of the item with this index without ref and tail.
func itemOverhead(index int) int {
	n := len(itemStart) + len(strconv.Itoa(index)) + len(itemRef)
	if index > 0 {
		n++ // the comma before it
	}
	return n
}

func (in *inquiry) spans() []span {
	spans := make([]span, len(in.groups))
	for i, g := range in.groups {
		g.results = make([]wire.Result, len(g.refs.ends))
		spans[i] = span{group: g, to: len(g.refs.ends)}
	}
	return spans
}

func (b *batch) outcomes() []Outcome {
	outcomes := make([]Outcome, len(b.places))
	for i, p := range b.places {
		switch {
		case p.err != nil:
			outcomes[i].Err = p.err
		case p.inquiry != nil && p.inquiry.err != nil:
			outcomes[i].Err = p.inquiry.err
		default:
			outcomes[i].Results = make([]wire.Result, len(p.refs))
			for j, index := range p.refs {
				outcomes[i].Results[j] = p.group.results[index]
			}
		}
	}
	return outcomes
}

// list returns the refs from ≤ i < to, as JSON without brackets.
func (r refList) list(from, to int) []byte {
	start := 0
	if from > 0 {
		start = r.ends[from-1] + 1
	}
	return r.json[start:r.ends[to-1]]
}

// fit returns how many refs of the span, from its first on, take no more than
// room bytes as an item's resourceRef; not more than one without arrays.
func (s span) fit(room int, arrays bool) int {
	refs := s.group.refs
	if len(refs.list(s.from, s.from+1)) > room {
		return 0
	}
	if !arrays {
		return 1
	}
	return 1 + sort.Search(s.to-s.from-1, func(i int) bool { return len("[]")+len(refs.list(s.from, s.from+i+2)) > room })
}

// pack writes spans into as few bodies as their order and maxBody allow, each when
// it is asked for: all of them can be a thousand times what they are made of.
func pack(spans []span, arrays bool) iter.Seq[call] {
	return func(yield func(call) bool) {
		next := newCall(spans, arrays)
		for i, s := range spans {
			for s.from < s.to {
				n := s.fit(next.room(s), arrays)
				if n == 0 {
					if !yield(next.end()) {
						return
					}
					next = newCall(spans[i:], arrays)
					n = s.fit(next.room(s), arrays) // at least one, or add had refused it
				}
				next.append(span{group: s.group, from: s.from, to: s.from + n})
				s.from += n
			}
		}
		if len(next.spans) > 0 {
			yield(next.end())
		}
	}
}

// newCall returns an empty call with room for spans, as far as they fit.
func newCall(spans []span, arrays bool) call {
	size := len(bodyStart) + len(bodyEnd)
	for _, s := range spans {
		items := s.len()
		if arrays {
			items = 1
		}
		size += len(s.group.refs.json) + len("[]") + items*(itemOverhead(len(spans))+len(s.group.tail))
		if size >= maxBody {
			size = maxBody
			break
		}
	}
	return call{body: append(make([]byte, 0, size), bodyStart...)}
}

// room is what one more item of s's group leaves for its refs.
func (c *call) room(s span) int {
	return maxBody - len(c.body) - itemOverhead(len(c.spans)) - len(s.group.tail) - len(bodyEnd)
}

func (c *call) append(s span) {
	if len(c.spans) > 0 {
		c.body = append(c.body, ',')
	}
	c.body = append(c.body, itemStart...)
	c.body = strconv.AppendInt(c.body, int64(len(c.spans)), 10)
	c.body = append(c.body, itemRef...)
	if s.isArray() {
		c.body = append(c.body, '[')
	}
	c.body = append(c.body, s.group.refs.list(s.from, s.to)...)
	if s.isArray() {
		c.body = append(c.body, ']')
	}
	c.body = append(c.body, s.group.tail...)
	c.spans = append(c.spans, s)
}

func (c *call) end() call {
	c.body = append(c.body, bodyEnd...)
	return *c
}

func (s span) len() int { return s.to - s.from }

// isArray reports whether the span's refs travel as an array; one alone is sent as
// a string, which plugins of every age understand.
func (s span) isArray() bool { return s.len() > 1 }

func (c call) hasArray() bool {
	for _, s := range c.spans {
		if s.isArray() {
			return true
		}
	}
	return false
}

// fill puts results, those of all spans in order, where they belong.
func (c call) fill(results []wire.Result) {
	for _, s := range c.spans {
		results = results[copy(s.group.results[s.from:s.to], results):]
	}
}
