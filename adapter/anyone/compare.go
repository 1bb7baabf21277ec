package anyone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/saying"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/anyone/valuation"
	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Changes are what another policy changes, for all callers that there can be.
type Changes struct {
	// Differences are those of the permissions that were compared.
	Differences []Difference `json:"changes"`
	// Sets are the claims and users of each set that the words name.
	Sets map[string][]string `json:"sets,omitempty"`
	// Outside are the permissions for which there is no formula.
	Outside []Outside `json:"outside,omitempty"`
	// Compared is how many permissions were compared.
	Compared int `json:"compared"`
}

// A Difference is a change of permissions for kinds of callers.
type Difference struct {
	Permissions  []string           `json:"permissions"`
	Kinds        []Kind             `json:"kinds"`
	Change       comparison.Change  `json:"change"`
	Gains        *criteria.Criteria `json:"gains,omitempty"`
	Loses        *criteria.Criteria `json:"loses,omitempty"`
	GainsInWords string             `json:"gainsInWords,omitempty"`
	LosesInWords string             `json:"losesInWords,omitempty"`
	// Example is a caller whom both policies were asked about, and whose answer changes;
	// empty where none was found.
	Example string `json:"example,omitempty"`
}

// Outside is why there is no formula for some permissions, with file and line.
type Outside struct {
	Permissions []string `json:"permissions"`
	Why         string   `json:"why"`
}

// longestCompared is how long two policies are compared.
const longestCompared = time.Minute

// Compare compares two policies for all callers that there can be. What is assumed is that
// nobody is two users, that who has a claim has it in lower case, that who owns by a claim
// owns by the claims, and what the Comparer knows of entities.
//
// The error is the context's, or that of compiling a policy.
func Compare(
	ctx context.Context, before, after *offline.Policy, permissions []wire.Permission, known *comparison.Comparer,
) (*Changes, error) {
	var policies [2]*Policy
	for i, p := range []*offline.Policy{before, after} {
		why, err := saying.TooLarge(ctx, p)
		if err != nil {
			return nil, err
		}
		if why != "" {
			all := make([]string, len(permissions))
			for j, permission := range permissions {
				all[j] = permission.Name
			}
			return &Changes{Differences: []Difference{}, Outside: []Outside{{all, why}}}, nil
		}
		if policies[i], err = Open(p); err != nil {
			return nil, err
		}
	}
	s, err := saying.New(ctx, before, after)
	if err != nil {
		return nil, err
	}
	c := &Changes{Differences: []Difference{}, Sets: s.Sets()}
	asked := asking{before: before, after: after, known: known}
	limited, stop := context.WithTimeout(ctx, longestCompared)
	defer stop()
	for _, permission := range permissions {
		err := c.compare(limited, policies, permission, asked, s)
		if limited.Err() != nil && ctx.Err() == nil {
			c.outside(permission.Name, "it takes too long to compare all of them")
			continue
		}
		if outside, ok := errors.AsType[*evaluation.OutsideError](err); ok && ctx.Err() == nil {
			c.outside(permission.Name, outside.Error())
			continue
		}
		if errors.Is(err, criteria.ErrTooLarge) {
			c.outside(permission.Name, "the conditions are too large to be compared")
			continue
		}
		if err != nil {
			return nil, err
		}
		c.Compared++
	}
	slices.SortStableFunc(c.Differences, func(a, b Difference) int { return a.Change.Rank() - b.Change.Rank() })
	return c, nil
}

func (c *Changes) outside(permission, why string) {
	for i := range c.Outside {
		if c.Outside[i].Why == why {
			c.Outside[i].Permissions = append(c.Outside[i].Permissions, permission)
			return
		}
	}
	c.Outside = append(c.Outside, Outside{[]string{permission}, why})
}

func (c *Changes) compare(
	ctx context.Context, policies [2]*Policy, permission wire.Permission, asked asking, s *saying.Speaker,
) error {
	t := theory.New()
	var of [2]*Answer
	for i, p := range policies {
		var err error
		if of[i], err = p.may(ctx, t, permission); err != nil {
			return err
		}
	}
	assumed := &assumptions{t, make(map[criteria.Function]bool)}
	for _, kind := range Kinds {
		from, to := of[0].allows[kind], of[1].allows[kind]
		if from == to {
			continue
		}
		if err := assumed.assume(asked.known, from, to); err != nil {
			return err
		}
		gains, err := t.Space.Difference(to, from)
		if err != nil {
			return err
		}
		loses, err := t.Space.Difference(from, to)
		if err != nil {
			return err
		}
		example := ""
		if gains.Op != criteria.Never || loses.Op != criteria.Never {
			facts := t.Space.All(slices.Collect(maps.Keys(assumed.made))...)
			gained, lost := t.Space.All(facts, to, from.Not()), t.Space.All(facts, from, to.Not())
			some := append(examples(t, kind, gained), examples(t, kind, lost)...)
			if example, err = asked.example(ctx, permission, some); err != nil {
				return err
			}
		}
		c.add(permission.Name, kind, gains, loses, example, s)
	}
	return nil
}

// asking are two policies as they decide for one caller.
type asking struct {
	before, after *offline.Policy
	known         *comparison.Comparer
}

// example is the first of some callers whose answer changes, by name.
func (a asking) example(ctx context.Context, permission wire.Permission, of []decision.Caller) (string, error) {
	for _, c := range of {
		from, err := a.before.Decide(ctx, c, permission)
		if err != nil {
			return "", err
		}
		to, err := a.after.Decide(ctx, c, permission)
		if err != nil {
			return "", err
		}
		found, err := a.known.Compare(comparison.Served(permission, from), comparison.Served(permission, to))
		if err != nil {
			return "", err
		}
		if found.Change != comparison.Same {
			return witness(c), nil
		}
	}
	return "", nil
}

// witness is the name of a caller, so that the same one can be asked for. Backstage gives its
// users a claim of their own, and the commands take one for granted.
func witness(c decision.Caller) string {
	if c.Anonymous || slices.Contains(c.Claims, c.User) {
		return callers.Name(c)
	}
	return callers.Name(c) + ", who has no claim of their own reference"
}

func (c *Changes) add(permission string, kind Kind, gains, loses criteria.Criteria, example string, s *saying.Speaker) {
	d := Difference{Permissions: []string{permission}, Kinds: []Kind{kind}, Change: comparison.Other, Example: example}
	switch {
	case gains.Op == criteria.Never && loses.Op == criteria.Never:
		return
	case loses.Op == criteria.Never:
		d.Change = comparison.Wider
	case gains.Op == criteria.Never:
		d.Change = comparison.Narrower
	}
	if gains.Op != criteria.Never {
		d.Gains, d.GainsInWords = &gains, s.Say(gains)
	}
	if loses.Op != criteria.Never {
		d.Loses, d.LosesInWords = &loses, s.Say(loses)
	}
	for i, other := range c.Differences {
		if !other.same(d) {
			continue
		}
		switch {
		case slices.Equal(other.Permissions, d.Permissions):
			c.Differences[i].Kinds = append(c.Differences[i].Kinds, kind)
			c.fold(i)
			return
		case slices.Equal(other.Kinds, d.Kinds):
			c.Differences[i].Permissions = append(c.Differences[i].Permissions, permission)
			return
		}
	}
	c.Differences = append(c.Differences, d)
}

// fold joins a difference with one that says the same for the same kinds.
func (c *Changes) fold(i int) {
	d := c.Differences[i]
	for j, other := range c.Differences {
		if j != i && other.same(d) && slices.Equal(other.Kinds, d.Kinds) {
			c.Differences[j].Permissions = append(c.Differences[j].Permissions, d.Permissions...)
			c.Differences = slices.Delete(c.Differences, i, i+1)
			return
		}
	}
}

func (d Difference) same(other Difference) bool {
	return d.Change == other.Change && d.GainsInWords == other.GainsInWords && d.LosesInWords == other.LosesInWords
}

// Same is whether nothing changes for anybody, of any permission.
func (c *Changes) Same() bool { return len(c.Differences) == 0 && len(c.Outside) == 0 }

// Has is whether there is a change of one of some kinds.
func (c *Changes) Has(kinds ...comparison.Change) bool {
	return slices.ContainsFunc(c.Differences, func(d Difference) bool { return slices.Contains(kinds, d.Change) })
}

// Text says the changes in lines.
func (c *Changes) Text() string {
	var b strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "%s  %s\n", d.Change, strings.Join(d.Permissions, ", "))
		for _, line := range d.lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	for _, line := range c.rest() {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// lines say a difference, what matters most first.
func (d Difference) lines() []string {
	kinds := make([]string, len(d.Kinds))
	for i, kind := range d.Kinds {
		kinds[i] = string(kind)
	}
	lines := []string{"for every caller: " + strings.Join(kinds, "; ")}
	if d.GainsInWords != "" {
		lines = append(lines, "gain: "+d.GainsInWords)
	}
	if d.LosesInWords != "" {
		lines = append(lines, "lose: "+d.LosesInWords)
	}
	if d.Example == "" { // startswith may say the same as a regular expression
		return append(lines, "for example: nobody was found whose answer changes, and it may be that nobody's does")
	}
	return append(lines, "for example: "+d.Example)
}

// rest are lines on the sets that are named, and on what was not compared.
func (c *Changes) rest() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(c.Sets)) {
		lines = append(lines, name+": "+listed(c.Sets[name]))
	}
	if len(c.Differences) == 0 && c.Compared > 0 {
		lines = append(lines, fmt.Sprintf("every caller: SAME, of %d permissions", c.Compared))
	}
	for _, o := range c.Outside {
		of := listed(o.Permissions)
		if n := len(o.Permissions); n > 1 && c.Compared == 0 && len(c.Outside) == 1 {
			of = fmt.Sprintf("any of the %d permissions", n)
		}
		lines = append(lines, fmt.Sprintf("every caller: no formula is found for %s: %s", of, o.Why))
	}
	return lines
}

// Markdown is the changes for a comment on a change of policy.
func (c *Changes) Markdown() string {
	var b strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "\n**%s** %s\n", d.Change, report.Codes(d.Permissions))
		for _, line := range d.lines() {
			fmt.Fprintf(&b, "- %s\n", report.Markdown(line))
		}
	}
	if rest := c.rest(); len(rest) > 0 {
		b.WriteByte('\n')
		for _, line := range rest {
			fmt.Fprintf(&b, "- %s\n", report.Markdown(line))
		}
	}
	return b.String()
}

// GitHub is the changes as commands of a GitHub workflow.
func (c *Changes) GitHub(failOn []comparison.Change) string {
	var b strings.Builder
	for _, d := range c.Differences {
		level := "notice"
		if slices.Contains(failOn, d.Change) {
			level = "error"
		}
		title := fmt.Sprintf("%s: %s", d.Change, strings.Join(d.Permissions, ", "))
		fmt.Fprintf(&b, "::%s title=%s::%s\n", level, report.Property(title), report.Message(strings.Join(d.lines(), "\n")))
	}
	if rest := c.rest(); len(rest) > 0 {
		fmt.Fprintf(&b, "::notice title=Every caller::%s\n", report.Message(strings.Join(rest, "\n")))
	}
	return b.String()
}

// maxAssumed is how many facts of one comparison are assumed.
const maxAssumed = 5_000

// assumptions are what is true of every caller and entity, as far as it was noted.
type assumptions struct {
	*theory.Theory
	made map[criteria.Function]bool
}

// assume notes what is true of every caller and entity, as far as functions ask for it.
func (t *assumptions) assume(known *comparison.Comparer, of ...criteria.Function) error {
	var claims, somes, users, aboutUser []criteria.Function
	var rules []criteria.Criteria
	seen := make(map[criteria.Function]bool)
	for _, f := range of {
		if f == criteria.Denied || f == criteria.Granted {
			continue
		}
		for _, v := range t.Space.Variables(f) {
			a := t.Atoms[v]
			if a == nil || seen[v] {
				continue
			}
			seen[v] = true
			switch {
			case a.Kind == theory.AsksMember && t.SymbolOf(a.B) == t.Claims && t.IsPlainText(a.A):
				claims = append(claims, v)
			case a.Kind == theory.AsksSome:
				somes = append(somes, v)
			case a.Kind == theory.AsksEqual && t.SymbolOf(a.A) == t.User && t.IsPlainText(a.B):
				users = append(users, v)
			case a.Kind == theory.AsksRule && !t.Symbolic(a.Params):
				text := a.Params.String()
				rules = append(rules, criteria.Criteria{Op: criteria.Leaf,
					Rule: criteria.Rule{Name: a.Name, ResourceType: a.About, Params: text}})
			case t.isAboutUser(a):
				aboutUser = append(aboutUser, v)
			}
		}
	}
	t.assumeClaims(claims, somes)
	t.assumeUsers(users, aboutUser)
	t.assumeParts(aboutUser)
	if err := t.Failure(); err != nil {
		return err
	}
	return known.Assume(t.Space, rules...)
}

func (t *assumptions) assumeOnce(f criteria.Function) {
	if !t.made[f] && len(t.made) < maxAssumed {
		t.made[f] = true
		t.Space.Assume(f)
	}
}

// assumeClaims notes that what holds of a claim of the caller holds of some claim.
func (t *assumptions) assumeClaims(claims, somes []criteria.Function) {
	for _, v := range somes {
		some := t.Atoms[v]
		if !t.OfClaims(some.Exists) {
			continue
		}
		for _, has := range claims {
			by := map[int]*ast.Term{some.Exists[0]: t.Atoms[has].A}
			such := criteria.Granted
			for _, l := range some.Such {
				is := t.ReplaceAtom(l.Atom, by)
				if l.Negated {
					is = is.Not()
				}
				such = t.Space.All(such, is)
			}
			t.assumeOnce(t.Space.All(has, such, v.Not()).Not())
		}
		for _, w := range somes { // more is said of the one than of the other
			if other := t.Atoms[w]; v != w && t.OfClaims(other.Exists) && t.says(some, other) {
				t.assumeOnce(t.Space.All(v, w.Not()).Not())
			}
		}
	}
}

// says is whether all that one atom says of a claim another says too.
func (t *assumptions) says(more, less *theory.Atom) bool {
	texts := make(map[string]bool)
	for _, l := range more.Such {
		texts[fmt.Sprint(l.Negated, t.Renumbered(l.Atom.Key, more.Exists))] = true
	}
	for _, l := range less.Such {
		if !texts[fmt.Sprint(l.Negated, t.Renumbered(l.Atom.Key, less.Exists))] &&
			!slices.ContainsFunc(more.Such, func(by theory.Literal) bool { return t.saysPart(more, less, by, l) }) {
			return false
		}
	}
	return true
}

// isAboutUser is whether an atom is about nothing but the user.
func (t *assumptions) isAboutUser(a *theory.Atom) bool {
	if a.Kind != theory.AsksEqual && a.Kind != theory.AsksDefined {
		return false
	}
	only := true
	var visit func(s *theory.Symbol)
	visit = func(s *theory.Symbol) {
		only = only && (s.Kind == theory.KindUser || s.Kind == theory.KindCall || s.Kind == theory.KindIndex)
		for _, arg := range s.Args {
			t.EachSymbol(arg, visit)
		}
	}
	for _, term := range []*ast.Term{a.A, a.B} {
		if term != nil {
			t.EachSymbol(term, visit)
		}
	}
	return only
}

// assumeUsers notes what is true of each user that is named.
func (t *assumptions) assumeUsers(users, about []criteria.Function) {
	for _, v := range users {
		r := valuation.New(t.Theory, decision.Caller{User: theory.TextIn(t.Atoms[v].B)}, nil)
		for _, w := range about {
			holds, err := r.Answer(t.Atoms[w])
			if err != nil {
				continue
			}
			is := w
			if !holds {
				is = w.Not()
			}
			t.assumeOnce(t.Space.All(v, is.Not()).Not())
		}
	}
}
