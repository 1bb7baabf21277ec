// Package trial finds what is wrong with a policy by letting it decide: what fails, what
// everybody has, conditions that never hold, and rules that change nothing. The engine
// that serves decides about every permission for each class of callers.
package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/reading"
	"github.com/stagedoor/stagedoor/adapter/source"
	"github.com/stagedoor/stagedoor/adapter/source/params"
	"github.com/stagedoor/stagedoor/adapter/tables"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// How long deciding, and then looking for rules that never matter, may take. What is
// not done by then is said in the report, and nothing is claimed of it.
const (
	maxDeciding = 25 * time.Second
	maxLooking  = 20 * time.Second
)

// unheardOf is a permission that nobody publishes: who may do this, may do what no
// rule speaks of.
var unheardOf = wire.Permission{Name: "stagedoor.check.unheard.of"}

// A Trial is how a policy was asked, and what of it was not.
type Trial struct {
	// Callers are the classes of callers that were asked about.
	Callers callers.Classes
	// Questions is how many decisions were made.
	Questions int
	// Unlooked says why rules were not looked at for what never holds and what changes
	// nothing; it is empty where they were.
	Unlooked string
	// Everyone says what every caller there can be may; nil where that is not known.
	Everyone *anyone.Survey
	// Unknown says why it is not; it is empty where it is.
	Unknown string
}

// doubtClasses says that there may be other callers than the classes where none of these
// is allowed what some caller is that there can be.
func (t *Trial) doubtClasses(allowed map[string]bool) {
	if t.Everyone == nil || !t.Callers.All {
		return
	}
	for _, name := range t.Everyone.Some {
		if !allowed[name] {
			t.Callers.All, t.Callers.Why = false, "some caller may be allowed "+name+", and none of these is"
			return
		}
	}
}

// Options say how a policy is asked.
type Options struct {
	// Progress is told for how many of how many classes it was asked; nil for nobody.
	Progress func(done, of int)
	// Unhurried has it take as long as it takes.
	Unhurried bool
}

// Run adds to what was found in the source what shows when the policy decides. It asks
// about every permission for each class of callers. The sources are those of the policy, or
// of the one of its bundles that is looked at.
func Run(ctx context.Context, read *source.Source, p *offline.Policy, sources *offline.Sources, o Options) (Trial,
	error) {
	s := &trying{Source: read, unhurried: o.Unhurried}
	document, err := p.Document(ctx)
	if err != nil {
		return s.trial, err
	}
	data, _ := document.(map[string]any)
	s.trial.Callers = callers.Of(callers.Sources{
		Modules: p.Modules(), Tests: sources.Tests, Data: data, Inventory: s.Words.Inventory,
		Known: s.tableCallers(sources), Apart: p.Apart(),
	})
	absent, err := p.Absent()
	if err != nil {
		return s.trial, err
	}
	if len(absent) > 0 {
		s.trial.Callers.All = false
		s.trial.Callers.Why = "it was asked without " + absent[0] + ", which no file of " + p.Path + " has"
	}
	var permissions []wire.Permission
	for _, each := range s.Words.Inventory.Permissions {
		permissions = append(permissions, wirePermission(each))
	}
	d := &deciding{trying: s, permissions: permissions, failures: map[string]*failing{},
		entry: s.entryPosition(p.Entrypoint()), refused: newRefusals()}
	start, classes := time.Now(), s.trial.Callers.List
	allowed := make(map[string]bool)
	for i, class := range classes {
		if i > 0 && !s.unhurried && time.Since(start) > maxDeciding {
			s.trial.Callers = callers.Classes{List: classes[:i], Why: fmt.Sprintf("time was up after %d of %d classes", i,
				len(classes))}
			break
		}
		batch, err := p.DecideAll(ctx, class.Example, append(permissions, unheardOf))
		if err != nil {
			return s.trial, err
		}
		s.trial.Questions += len(permissions)
		for j, permission := range permissions {
			o := batch.Outcomes[j]
			allowed[permission.Name] = allowed[permission.Name] || o.Err != nil || o.Decision.Result != wire.Deny
		}
		d.see(i, class, batch)
		if o.Progress != nil {
			o.Progress(i+1, len(classes))
		}
	}
	d.tell()
	if len(absent) > 0 {
		s.trial.Unknown = "no file of " + p.Path + " has " + absent[0]
	} else if err := s.everyone(ctx, p, permissions); err != nil {
		return s.trial, err
	}
	s.trial.doubtClasses(allowed)
	return s.trial, s.look(ctx, p, sources, data)
}

// trying is a trial under way.
type trying struct {
	*source.Source
	trial    Trial
	surveyor *anyone.Surveyor // who asks of every caller there can be; nil where nobody does
	// unhurried has nothing end for taking long.
	unhurried bool
}

// within is a context for what may take so long.
func (s *trying) within(ctx context.Context, long time.Duration) (context.Context, context.CancelFunc) {
	if s.unhurried {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, long)
}

// tableCallers are the callers that the decision tables of the bundle name. A table
// that cannot be read is a finding.
func (s *trying) tableCallers(sources *offline.Sources) []decision.Caller {
	files, err := tables.Files(sources.Files())
	if err != nil { // the data was read from the same files
		return nil
	}
	var known []decision.Caller
	for _, file := range files {
		table, err := tables.Read(sources.Files(), file, sources.Name(file))
		if err != nil {
			at, text := findings.Position{File: sources.Name(file), Row: 1, Col: 1}, err.Error()
			if wrong, ok := errors.AsType[*tables.Error](err); ok {
				at.Row, text = wrong.Line, wrong.Text
			}
			s.Add(at, findings.Error, tables.CodeTable, "%s", text)
			continue
		}
		for _, row := range table.Rows {
			s.published(sources.Name(file), row.Line, row.May)
		}
		for _, never := range table.Never {
			s.published(sources.Name(file), never.Line, never.May)
		}
		for _, name := range slices.Sorted(maps.Keys(table.Callers)) {
			known = append(known, table.Callers[name])
		}
	}
	return known
}

// published looks for permissions of a row that nobody publishes.
func (s *trying) published(file string, row int, permissions []string) {
	for _, name := range permissions {
		s.CheckPermissionName(findings.Position{File: file, Row: row, Col: 1}, name)
	}
}

func wirePermission(p inventory.Permission) wire.Permission {
	return wire.Permission{Name: p.Name, Resource: p.Type == "resource", Action: p.Attributes.Action,
		ResourceType: p.ResourceType}
}

// entryPosition is where the rule that decides stands.
func (s *trying) entryPosition(entrypoint string) findings.Position {
	if rules := s.Defined["data."+dotted(entrypoint)]; len(rules) > 0 {
		return findings.At(rules[0].Head.Location)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Modules)) { // a package
		return findings.Position{File: name, Row: 1, Col: 1}
	}
	return findings.Position{}
}

// deciding is what the decisions show.
type deciding struct {
	*trying
	permissions []wire.Permission
	entry       findings.Position
	failures    map[string]*failing
	order       []string
	everybody   []string // classes that may do what nobody speaks of
	voided      []string
	never       map[string]string
	about       map[string]string // questions that are answered about another type of resource
	empty       map[string]string
	refused     refusals
}

// failing is questions that fail alike.
type failing struct {
	at      findings.Position
	text    string
	example string
	names   map[string]bool
	part    bool // whether the rest of the answer stands
}

var place = regexp.MustCompile(`([^\s:]+\.rego):(\d+)(?::(\d+))?:?\s*`)

func (d *deciding) see(at int, class callers.Class, batch decision.Batch) {
	results := map[string]*decision.Outcome{}
	for i, outcome := range batch.Outcomes {
		if i == len(d.permissions) {
			if at < 2 && outcome.Err == nil && outcome.Decision.Result == wire.Allow { // everybody, and nobody in particular
				d.everybody = append(d.everybody, class.Name)
			}
			continue
		}
		permission := d.permissions[i]
		results[permission.Name] = outcome
		if outcome.Err != nil {
			d.fail(outcome.Err, permission.Name, class.Name, false)
		}
		for _, err := range outcome.Excluded {
			d.fail(err, permission.Name, class.Name, true)
		}
		if of := outcome.Decision.ResourceType; outcome.Err == nil && outcome.Decision.Result == wire.Conditional &&
			of != permission.ResourceType {
			d.note(&d.about, of, permission.Name+" for "+class.Name)
		}
		d.conditions(permission, class, outcome.Decision.Conditions, "the condition")
		d.refuse(outcome.Decision, permission.Name+" for "+class.Name)
	}
	if location, entity := results["catalog.location.delete"], results["catalog.entity.delete"]; location != nil &&
		entity != nil &&
		len(class.Example.Claims) <= 2 && location.Err == nil && location.Decision.Result == wire.Allow &&
		entity.Err == nil && entity.Decision.Result != wire.Allow {
		d.voided = append(d.voided, class.Name)
	}
}

func (d *deciding) fail(err error, permission, class string, part bool) {
	text := strings.Join(strings.Fields(err.Error()), " ")
	at := d.entry
	if m := place.FindStringSubmatch(text); m != nil {
		at = findings.Position{File: m[1], Col: 1}
		_, _ = fmt.Sscan(m[2], &at.Row)
		_, _ = fmt.Sscan(m[3], &at.Col)
		text = strings.Replace(text, m[0], "", 1)
		text = strings.ReplaceAll(text, path.Dir(m[1])+"/", "") // the rest is told by the base names
	}
	key := fmt.Sprintf("%v %v %s", at, part, text)
	if d.failures[key] == nil {
		d.failures[key] = &failing{at: at, text: text, example: permission + " for " + class, names: map[string]bool{},
			part: part}
		d.order = append(d.order, key)
	}
	d.failures[key].names[permission] = true
}

// conditions looks for parts of a condition that cannot hold.
func (d *deciding) conditions(permission wire.Permission, class callers.Class, c criteria.Criteria, part string) {
	if c.Op == criteria.AllOf {
		for i, a := range c.Of {
			for _, b := range c.Of[i+1:] {
				if why := exclude(a, b); why != "" && part != impossible {
					d.note(&d.never, why, part+" for "+permission.Name+" for "+class.Name)
				}
			}
		}
	}
	if c.Op == criteria.Leaf {
		for _, list := range params.EmptyMeansAll {
			if c.Rule.Name == list.Rule && c.Rule.ResourceType == list.ResourceType &&
				params.Empty(c.Rule.Params, list.Param) {
				d.note(&d.empty, list.Rule+" with no "+list.Param, permission.Name+" for "+class.Name)
			}
		}
	}
	switch c.Op {
	case criteria.Not:
		part = impossible // what never holds below it always holds
	case criteria.AnyOf:
		if part != impossible {
			part = "a part of the condition"
		}
	}
	for _, child := range c.Of {
		d.conditions(permission, class, child, part)
	}
}

// impossible is the part of a condition that may well never hold.
const impossible = ""

func (d *deciding) note(in *map[string]string, what, example string) {
	if *in == nil {
		*in = map[string]string{}
	}
	if (*in)[what] == "" {
		(*in)[what] = example
	}
}

func (d *deciding) tell() {
	for _, key := range d.order {
		f := d.failures[key]
		if f.part {
			d.Add(f.at, findings.Error, "fails", "a part of the policy fails for %s, such as %s, and allows nothing there: %s",
				countOf(len(f.names)), f.example, f.text)
			continue
		}
		if strings.Contains(f.text, "params") && d.FoundOn(f.at.File, "params") || f.at == d.entry &&
			slices.ContainsFunc([]string{"answer", "params", "rule", "plugin", "resource-type", "empty"},
				func(code string) bool { return d.FoundOn(f.at.File, code) }) ||
			slices.ContainsFunc(d.Findings, func(other findings.Finding) bool {
				return other.File == f.at.File && other.Line == f.at.Row && other.Code != "each"
			}) {
			continue
		}
		d.Add(f.at, findings.Error, "fails", "the policy fails for %s, such as %s: %s", countOf(len(f.names)), f.example,
			f.text)
	}
	if len(d.everybody) > 0 && !d.FoundOn(d.entry.File, "default") {
		d.Add(d.entry, findings.Warning, "everybody",
			"%s may do what no rule names, such as a permission of a plugin that is "+
				"not there yet; name the permissions, actions or resource types that are allowed",
			names(d.everybody))
	}
	if len(d.voided) > 0 && len(d.everybody) == 0 {
		d.Add(d.place("catalog.location.delete"), findings.Warning, "voided",
			"%s may delete locations whatever they hold, and with them entities that catalog.entity.delete keeps from "+
				"them; deny catalog.location.delete to whom entities are not all theirs", names(d.voided))
	}
	for _, what := range slices.Sorted(maps.Keys(d.never)) {
		d.Add(d.entry, findings.Warning, "never", "%s can never hold: %s", d.never[what], what)
	}
	for _, of := range slices.Sorted(maps.Keys(d.about)) {
		d.Add(d.entry, findings.Error, "guard", "the answer to %s is a condition about %s, which that permission is not "+
			"about; write input.permission.resourceType == %q first", d.about[of], of, of)
	}
	d.tellRefused()
	for _, what := range slices.Sorted(maps.Keys(d.empty)) {
		d.Add(d.entry, findings.Error, "empty",
			"the condition for %s is %s, which means everything; ask for count(…) > 0 first",
			d.empty[what], what)
	}
}

// place is where the policy names a permission, or where it decides.
func (d *deciding) place(name string) findings.Position {
	for _, c := range d.Constants {
		if c.Text == name && !c.Test && c.At.File != "" {
			return c.At
		}
	}
	return d.entry
}

func countOf(n int) string {
	if n == 1 {
		return "one permission"
	}
	return fmt.Sprintf("%d permissions", n)
}

func names(of []string) string {
	const most = 3
	if len(of) > most {
		return fmt.Sprintf("%s and %d other kinds of callers", of[0], len(of)-1)
	}
	return strings.Join(of, " and ")
}

// look looks for rules that never hold and rules that change nothing.
func (s *trying) look(ctx context.Context, p *offline.Policy, sources *offline.Sources, data map[string]any) error {
	for _, source := range p.Nondeterministic() {
		if source.Builtin == "http.send" || strings.HasPrefix(source.Builtin, "net.") {
			s.trial.Unlooked = "the policy asks the network, by " + source.Builtin
			return nil
		}
	}
	w, err := newWorld(p, sources, s.Rules, data)
	if err != nil {
		s.trial.Unlooked = "it cannot be compiled for that: " + findings.OneLine(err.Error())
		return nil
	}
	txn, err := w.store.NewTransaction(ctx)
	if err != nil {
		return err
	}
	defer w.store.Abort(ctx, txn)
	reached := w.reach()
	s.tellUnread(w, reached, p.Entrypoint())
	var pending, unsure []*watched
	for _, seen := range w.all {
		switch {
		case !reached[seen] || seen.data || s.foundIn(seen.rule):
		case !seen.identity || s.trial.Callers.All:
			pending = append(pending, seen)
		case !seen.context:
			unsure = append(unsure, seen)
		}
	}
	l := &looking{trying: s, world: w, txn: txn,
		permissions: append(slices.Clone(s.Words.Inventory.Permissions), s.possible()...)}
	if len(pending) > 0 {
		limited, cancel := s.within(ctx, maxLooking)
		defer cancel()
		unsure = append(unsure, l.all(limited, pending)...)
	}
	if ctx.Err() == nil && len(unsure) > 0 {
		err = l.further(ctx, unsure)
	}
	return errors.Join(err, ctx.Err())
}

// looking is a look at rules, under way.
type looking struct {
	*trying
	*world
	txn         storage.Transaction
	permissions []inventory.Permission
	cut         string // a question of which only some answers were looked at; empty where there is none
}

// each asks every question and shows what comes of it, until time is up.
func (l *looking) each(ctx context.Context, see func(*ast.Term, map[string]bool, evaluation)) bool {
	for _, class := range l.trial.Callers.List {
		for _, permission := range l.permissions {
			l.permission = permission
			input := inputOf(permission, class.Example)
			done := l.explore(ctx, l.txn, input, func(answers map[string]bool, e evaluation) { see(input, answers, e) })
			if !done && l.cut == "" {
				l.cut = permission.Name + " for " + class.Name
			}
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

// matter finds which of the rules that are pending hold and change an answer.
func (l *looking) matter(ctx context.Context) bool {
	return l.each(ctx, func(input *ast.Term, answers map[string]bool, e evaluation) {
		for _, held := range e.held {
			if held.matters || !held.pending || held.context {
				continue
			}
			held.matters = !e.same(l.without(ctx, l.txn, input, answers, held))
		}
	})
}

// all tells of rules that never hold, or change nothing. It returns those that may change
// something for callers who were not asked for.
func (l *looking) all(ctx context.Context, pending []*watched) (unsure []*watched) {
	for _, seen := range pending {
		seen.pending = true
	}
	whole := l.matter(ctx)
	// What did not hold may not have been asked for. Whether it can hold it says by itself.
	for _, seen := range pending {
		if !seen.held && whole {
			l.by(seen)
			whole = l.each(ctx, func(*ast.Term, map[string]bool, evaluation) {})
		}
		seen.pending = false
	}
	l.by(nil)
	s := l.trying
	if !whole {
		s.trial.Unlooked = "time was up"
		return nil
	}
	if l.cut != "" && slices.ContainsFunc(pending, func(seen *watched) bool { return seen.resource }) {
		s.trial.Unlooked = fmt.Sprintf("of %s and others only %d combinations of answers were looked at, so nothing is said "+
			"of the rules about the resource", l.cut, maxEvaluations)
	}
	known := func(seen *watched) bool { return l.cut == "" || !seen.resource }
	for _, seen := range pending {
		switch guarded := l.guards[seen]; {
		case !seen.held && known(seen):
			s.tellDead(seen)
		case seen.held && !seen.matters && !seen.context && known(seen) && !s.trial.Callers.All:
			unsure = append(unsure, seen)
		case seen.held && !seen.matters && !seen.context && known(seen):
			s.tellIdle(seen)
		case len(guarded) > 0:
			s.tellGuard(seen, guarded)
		}
	}
	return unsure
}

// possible are permissions of plugins that the inventory does not know and that the
// policy has rules of: whatever such a plugin could publish that the policy names.
func (s *trying) possible() []inventory.Permission {
	var all []inventory.Permission
	for _, plugin := range slices.Sorted(maps.Keys(s.Words.Own)) {
		names := map[string]bool{plugin + ".check.unheard.of": true}
		for _, c := range s.Constants {
			if c.Node.Root().Kinds == reading.PermissionName && strings.HasPrefix(c.Text, plugin+".") {
				names[c.Text] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			for _, action := range []string{"", "create", "read", "update", "delete"} {
				all = append(all, inventory.Permission{Name: name, Type: "basic", Attributes: inventory.Attributes{Action: action}})
				for _, resourceType := range s.Words.OwnTypes[plugin] {
					all = append(all, inventory.Permission{
						Name: name, Type: "resource", Attributes: inventory.Attributes{Action: action}, ResourceType: resourceType,
					})
				}
			}
		}
	}
	return all
}

// foundIn is whether something was found in the rule already, which is cause enough.
func (s *trying) foundIn(rule *ast.Rule) bool {
	from, to := rule.Location.Row, rule.Location.Row+strings.Count(string(rule.Location.Text), "\n")
	return slices.ContainsFunc(s.Findings, func(f findings.Finding) bool {
		return f.File == rule.Location.File && f.Line >= from && f.Line <= to
	})
}

func inputOf(p inventory.Permission, c decision.Caller) *ast.Term {
	permission := [][2]*ast.Term{
		ast.Item(ast.StringTerm("name"), ast.StringTerm(p.Name)),
		ast.Item(ast.StringTerm("type"), ast.StringTerm(p.Type)),
	}
	attributes := ast.NewObject()
	if p.Attributes.Action != "" {
		attributes.Insert(ast.StringTerm("action"), ast.StringTerm(p.Attributes.Action))
	}
	permission = append(permission, ast.Item(ast.StringTerm("attributes"), ast.NewTerm(attributes)))
	if p.ResourceType != "" {
		permission = append(permission, ast.Item(ast.StringTerm("resourceType"), ast.StringTerm(p.ResourceType)))
	}
	input := ast.NewObject(ast.Item(ast.StringTerm("permission"), ast.ObjectTerm(permission...)))
	if p.Type == "resource" {
		input.Insert(ast.StringTerm("resource"), ast.StringTerm("the resource"))
	}
	if !c.Anonymous {
		claims := make([]*ast.Term, len(c.Claims))
		for i, claim := range c.Claims {
			claims[i] = ast.StringTerm(claim)
		}
		identity := ast.NewObject(
			ast.Item(ast.StringTerm("user"), ast.StringTerm(c.User)),
			ast.Item(ast.StringTerm("claims"), ast.ArrayTerm(claims...)),
		)
		if c.Actor != "" {
			identity.Insert(ast.StringTerm("actor"), ast.StringTerm(c.Actor))
		}
		input.Insert(ast.StringTerm("identity"), ast.NewTerm(identity))
	}
	return ast.NewTerm(input)
}

func (s *trying) tellDead(w *watched) {
	why := "its comparisons never hold together"
	if w.failed != nil {
		why = fmt.Sprintf("what comes furthest fails at line %d: %s", w.failed.Location.Row,
			findings.OneLine(string(w.failed.Location.Text)))
		if w.basic {
			why += ", since a basic permission has no resource"
		}
	}
	s.Add(findings.At(w.rule.Head.Location), findings.Warning, "dead",
		"this holds for no permission of the inventory and none of the callers tried: %s; mend it or delete it", why)
}

// denial is how rules are called that forbid.
var denial = regexp.MustCompile(`(?i)^(den(y|ied)|forbid|forbidden|block(ed)?|prohibit(ed)?)(_|$)`)

// tellUnread tells of denials that nothing reaches which decides.
func (s *trying) tellUnread(w *world, reached map[*watched]bool, entrypoint string) {
	for _, seen := range w.all {
		ref := seen.rule.Ref().GroundPrefix()
		name := strings.Trim(ref[len(ref)-1].String(), `"`)
		if reached[seen] || !denial.MatchString(name) || strings.HasPrefix(ref.String(), "data.system.") {
			continue
		}
		s.Add(findings.At(seen.rule.Head.Location), findings.Warning, "dead",
			"nothing that decides asks for %s, so that it forbids nothing; write not %s in the rules of %s", name, name,
			strings.ReplaceAll(entrypoint, "/", "."))
	}
}

func (s *trying) tellGuard(w *watched, guarded map[string]string) {
	names := slices.Sorted(maps.Keys(guarded))
	s.Add(findings.At(w.rule.Head.Location), findings.Warning, "guard",
		"for %s, such as %s, this asks a rule about %s, though the permission is not about those, and so it allows "+
			"nothing there; write input.permission.resourceType == %q first",
		countOf(len(names)), names[0], guarded[names[0]], guarded[names[0]])
}

func (s *trying) tellIdle(w *watched) {
	s.Add(findings.At(w.rule.Head.Location), findings.Warning, "implied",
		"this changes no answer for the permissions that were asked: wherever it holds the answer is the same without it; "+
			"delete it and check again before another, or mend what it was meant to change")
}

// oneText are the members of an entity that are one text, by the rule that looks at them.
var oneText = map[string][]string{
	"HAS_SPEC":     {"lifecycle", "type", "owner", "system", "parent", "domain"},
	"HAS_METADATA": {"name", "namespace", "title", "uid", "etag", "description"},
}

// exclude says why two conditions cannot hold together, or is empty.
func exclude(a, b criteria.Criteria) string {
	if a.Op != criteria.Leaf || b.Op != criteria.Leaf || a.Rule.Name != b.Rule.Name ||
		a.Rule.ResourceType != "catalog-entity" {
		return ""
	}
	var x, y struct {
		Kinds      []string `json:"kinds"`
		Label      string   `json:"label"`
		Annotation string   `json:"annotation"`
		Key        string   `json:"key"`
		Value      *string  `json:"value"`
	}
	if json.Unmarshal([]byte(a.Rule.Params), &x) != nil || json.Unmarshal([]byte(b.Rule.Params), &y) != nil {
		return ""
	}
	switch a.Rule.Name {
	case "IS_ENTITY_KIND":
		for _, kind := range x.Kinds {
			if slices.ContainsFunc(y.Kinds, func(other string) bool { return strings.EqualFold(kind, other) }) {
				return ""
			}
		}
		return fmt.Sprintf("an entity is not both %s and %s", strings.Join(x.Kinds, " or "), strings.Join(y.Kinds, " or "))
	case "HAS_SPEC", "HAS_METADATA": // of the members that are one text in every entity
		if one := slices.Contains(oneText[a.Rule.Name], x.Key) && x.Key == y.Key; one && x.Value != nil && y.Value != nil &&
			!strings.EqualFold(*x.Value, *y.Value) { // lists are asked for in lower case
			return fmt.Sprintf("%s is not both %s and %s", x.Key, *x.Value, *y.Value)
		}
	case "HAS_LABEL", "HAS_ANNOTATION":
		name, other := x.Label+x.Annotation, y.Label+y.Annotation
		if x.Value != nil && y.Value != nil && name == other && !strings.EqualFold(*x.Value, *y.Value) {
			return fmt.Sprintf("%s is not both %s and %s", name, *x.Value, *y.Value)
		}
	}
	return ""
}
