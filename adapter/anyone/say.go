package anyone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/saying"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Open compiles a policy that was opened, so that it can be asked about all callers.
func Open(p *offline.Policy) (*Policy, error) {
	modules := offline.Library()
	maps.Copy(modules, p.Modules())
	return Compile(Options{
		Modules: modules, Entrypoint: p.Entrypoint(), Store: p.Data(), WithoutResource: !p.AboutResource(),
	})
}

// A Who says which callers may do something, of all that there can be.
type Who struct {
	// Callers are the kinds of callers, those folded that may do the same.
	Callers []Said `json:"callers,omitempty"`
	// Sets are the claims and users of each set that the words name.
	Sets map[string][]string `json:"sets,omitempty"`
	// Outside says why there is no formula, with file and line; it is empty where there is.
	Outside string `json:"outside,omitempty"`
}

// Said is what kinds of callers may do.
type Said struct {
	Kinds []Kind `json:"kinds"`
	// Result is ALLOW, DENY or CONDITIONAL: by who the caller is, by what the resource is,
	// or both.
	Result   string             `json:"result"`
	Criteria *criteria.Criteria `json:"criteria,omitempty"`
	InWords  string             `json:"inWords,omitempty"`
}

// WhoMay says which callers may do something by a policy. The error is the context's, or
// that of compiling it.
func WhoMay(ctx context.Context, p *offline.Policy, permission wire.Permission) (*Who, error) {
	if why, err := saying.TooLarge(ctx, p); why != "" || err != nil {
		return &Who{Outside: why}, err
	}
	policy, err := Open(p)
	if err != nil {
		return nil, err
	}
	answer, err := policy.May(ctx, permission)
	if outside, ok := errors.AsType[*evaluation.OutsideError](err); ok && ctx.Err() == nil {
		return &Who{Outside: outside.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := saying.New(ctx, p)
	if err != nil {
		return nil, err
	}
	w := &Who{Sets: s.Sets()}
	for _, kind := range Kinds {
		c, err := answer.Criteria(kind)
		if errors.Is(err, criteria.ErrTooLarge) {
			return &Who{Outside: "the condition is too large to be told"}, nil
		}
		if err != nil {
			return nil, err
		}
		w.add(kind, c, s)
	}
	return w, nil
}

func (w *Who) add(kind Kind, c criteria.Criteria, s *saying.Speaker) {
	said := Said{Kinds: []Kind{kind}}
	switch c.Op {
	case criteria.Never:
		said.Result = wire.Deny.String()
	case criteria.Always:
		said.Result = wire.Allow.String()
	default:
		said.Result, said.Criteria, said.InWords = wire.Conditional.String(), &c, s.Say(c)
	}
	for i, other := range w.Callers {
		if other.Result == said.Result && (other.Criteria == nil || other.Criteria.Equal(c)) {
			w.Callers[i].Kinds = append(w.Callers[i].Kinds, kind)
			return
		}
	}
	w.Callers = append(w.Callers, said)
}

// Text says it in lines.
func (w *Who) Text() string {
	var b strings.Builder
	if w.Outside != "" {
		fmt.Fprintf(&b, "every caller: no formula is found: %s\n", w.Outside)
		return b.String()
	}
	b.WriteString("every caller:\n")
	for _, said := range w.Callers {
		kinds := make([]string, len(said.Kinds))
		for i, kind := range said.Kinds {
			kinds[i] = string(kind)
		}
		fmt.Fprintf(&b, "  %s  %s\n", said.Result, strings.Join(kinds, "; "))
		if said.InWords != "" {
			fmt.Fprintf(&b, "    %s\n", said.InWords)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Sets)) {
		fmt.Fprintf(&b, "  %s: %s\n", name, listed(w.Sets[name]))
	}
	return b.String()
}

// mostListed is how many members of a set a line lists.
const mostListed = 20

func listed(names []string) string {
	text := strings.Join(names[:min(len(names), mostListed)], ", ")
	if more := len(names) - mostListed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
