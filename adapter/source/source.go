// Package source finds what is wrong with a policy by its source: names that nobody
// publishes, params that no rule takes, answers and references in a form that is none,
// and data that no file has. What hardly anybody means has a package of its own, habits.
package source

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/gobwas/glob"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/habits"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/reading"
)

// Source finds what can be read from the source.
type Source struct {
	*findings.List
	*reading.Reading
	Words *Vocabulary
	Data  *datafiles.Files
	roots []string // that other bundles cover
	texts map[*reading.Node][]*reading.Constant
	free  map[*reading.Node]map[string]bool // texts that a value has besides those of its kind
	keys  map[*reading.Node]map[string]bool // texts that are keys of objects
	plain map[*reading.Node]map[string]bool // texts that are not
}

// New takes what was read for what is checked; roots are those of other bundles.
func New(l *findings.List, r *reading.Reading, known *inventory.Inventory, roots []string) *Source {
	return &Source{List: l, Reading: r, Data: r.Files, Words: newVocabulary(known, r.Rules), roots: roots}
}

// Check adds what is wrong with the source.
func (s *Source) Check() {
	s.texts, s.free = map[*reading.Node][]*reading.Constant{}, map[*reading.Node]map[string]bool{}
	s.keys, s.plain = map[*reading.Node]map[string]bool{}, map[*reading.Node]map[string]bool{}
	for _, c := range s.Constants {
		root := c.Node.Root()
		s.texts[root] = append(s.texts[root], c)
		if c.Key {
			note(s.keys, root, c.Text)
		} else {
			note(s.plain, root, c.Text)
		}
		if c.Free {
			note(s.free, root, c.Text)
		}
	}
	s.checkAccesses()
	for _, c := range s.Constants {
		s.checkConstant(c)
	}
	for _, p := range s.Patterns {
		s.checkPattern(p)
	}
	for _, call := range s.Calls {
		s.checkCall(call)
	}
	for _, use := range s.Documents {
		s.checkDocument(use)
		if use.Test {
			s.checkTestPermission(use)
			s.checkTestResource(use)
		}
	}
	s.checkDataRefs()
	s.checkTypes()
	s.checkOwnRules()
	s.checkTests()
	for _, name := range slices.Sorted(maps.Keys(s.Modules)) {
		habits.Check(s.List, s.Modules[name])
	}
}

func note(in map[*reading.Node]map[string]bool, n *reading.Node, text string) {
	if in[n] == nil {
		in[n] = map[string]bool{}
	}
	in[n][text] = true
}

func (s *Source) checkAccesses() {
	for _, a := range s.Accesses {
		n := a.Of.Root()
		if n.Odd || n.Schema == nil || !n.Schema.Closed || n.Schema.Properties == nil || n.Schema.Properties[a.Name] != nil {
			continue
		}
		names := slices.Sorted(maps.Keys(n.Schema.Properties))
		meant := orNearest(a.Name, names)
		if n.Schema.Path == "input.identity" && slices.Contains([]string{"groups", "group", "roles", "ownership", "ent"},
			a.Name) {
			meant = " (claims?)"
		}
		if a.Test {
			s.Add(a.At, findings.Error, "input", "no Backstage sends %s.%s%s; it has %s", n.Schema.Path, a.Name, meant,
				strings.Join(names, ", "))
			continue
		}
		s.Add(a.At, findings.Error, "input", "%s has no member %s%s, so this is undefined for everybody; it has %s",
			n.Schema.Path, a.Name, meant, strings.Join(names, ", "))
	}
}

func (s *Source) checkConstant(c *reading.Constant) {
	n := c.Node.Root()
	kinds, exact := n.Kinds, n.Kinds != 0
	if kinds == 0 {
		kinds = n.Loose
	}
	if kinds == 0 || s.free[n][c.Text] || c.Text == "*" && (c.Key || c.Member) {
		return
	}
	if c.Test && kinds&(reading.PermissionName|reading.PermissionType|reading.Action) == 0 {
		return // a test may use what names it likes for what it is not about
	}
	text := c.Text
	if !exact {
		text = strings.ToLower(text)
	}
	switch {
	case kinds == reading.PermissionName:
		s.CheckPermissionName(c.At, text)
	case kinds == reading.Action:
		if !slices.Contains([]string{"create", "read", "update", "delete"}, text) {
			s.Add(c.At, findings.Error, "action", "no permission has the action %s%s; write create, read, update or delete",
				c.Text, orNearest(text, []string{"create", "read", "update", "delete", "update"}))
		}
	case kinds == reading.PermissionType:
		if text != "basic" && text != "resource" {
			s.Add(c.At, findings.Error, "permission-type", "a permission is basic or resource, never %s", c.Text)
		}
	case kinds == reading.ResourceType:
		if text != "" && !slices.Contains(s.Words.resourceTypes, text) {
			s.Add(c.At, findings.Error, "resource-type", "no permission is about resources of type %s%s", c.Text,
				orPull(text, s.Words.resourceTypes))
		}
	case kinds == reading.PluginID:
		if !slices.Contains(s.Words.plugins, text) {
			s.Add(c.At, findings.Error, "plugin", "no plugin that has permissions is called %s%s", c.Text,
				orPull(text, s.Words.plugins))
		}
	case kinds == reading.RuleName:
		if !slices.Contains(s.Words.rules, text) {
			s.Add(c.At, findings.Error, "rule", "no plugin publishes a rule %s%s", c.Text, orPull(text, s.Words.rules))
		}
	case kinds == reading.Result:
		if !slices.Contains([]string{"ALLOW", "DENY", "CONDITIONAL"}, text) {
			s.Add(c.At, findings.Error, "answer", "result is ALLOW, DENY or CONDITIONAL, never %s%s", c.Text,
				orNearest(text, []string{"ALLOW", "DENY", "CONDITIONAL"}))
		}
	case kinds == reading.Actor:
		s.checkActor(c, text)
	case kinds&^reading.AnyRef == 0:
		if !c.Test {
			s.checkRef(c, exact, kinds == reading.UserRef)
		}
	}
}

// CheckPermissionName looks for a name that no plugin publishes.
func (s *Source) CheckPermissionName(at findings.Position, name string) {
	if _, ok := s.Words.Inventory.Permission(name); ok {
		return
	}
	plugin, _, _ := strings.Cut(name, ".")
	if s.Words.Own[plugin] {
		return
	}
	if strings.ContainsAny(name, "*") {
		s.Add(at, findings.Error, "permission", "no permission is called %s, and == and in compare letter for letter; write "+
			"glob.match(%q, [\".\"], input.permission.name)",
			name, strings.ReplaceAll(strings.ReplaceAll(name, "**", "*"), "*", "**"))
		return
	}
	s.Add(at, findings.Error, "permission", "no permission is called %s%s", name, orPull(name, s.Words.permissions))
}

func (s *Source) checkActor(c *reading.Constant, text string) {
	id, ok := strings.CutPrefix(text, "plugin:")
	if !ok {
		s.Add(c.At, findings.Error, "actor", "an actor has the form plugin:catalog, never %s; write plugin:%s", c.Text,
			c.Text[strings.LastIndex(c.Text, ":")+1:])
		return
	}
	if !slices.Contains(s.Words.plugins, id) {
		if meant := mistaken(id, s.Words.plugins); meant != "" {
			s.Add(c.At, findings.Warning, "actor", "no plugin is called %s (%s?)", id, meant)
		}
	}
}

func (s *Source) checkRef(c *reading.Constant, exact, user bool) {
	text := c.Text
	if text == "" || strings.HasPrefix(text, "$") {
		return // a placeholder of the author's own
	}
	if slices.ContainsFunc(s.Findings, func(f findings.Finding) bool {
		return f.Code == "schema" && f.File == c.At.File &&
			f.Line == c.At.Row
	}) {
		return // the schema knows better what stands there
	}
	low := strings.ToLower(text)
	switch {
	case inventory.IsReference(text):
		switch kind, name, _ := strings.Cut(text, ":"); {
		case user && kind != "user":
			s.Add(c.At, findings.Error, "reference",
				"input.identity.user is a user, never %s; look for it in input.identity.claims",
				text)
		case !user && exact && !s.claimKind(kind):
			s.Add(c.At, findings.Warning, "reference", "claims are users and groups, and no claim that is known is a %s; "+
				"write group:%s, if that is meant", kind, name)
		}
	case inventory.IsReference(low):
		if exact {
			s.Add(c.At, findings.Error, "reference", "references are compared letter for letter and Backstage writes them in "+
				"lower case, so that %s is nobody; write %s", text, low)
		}
	case !strings.ContainsAny(text, ":/") && s.keys[c.Node.Root()][text] &&
		s.plain[c.Node.Root()][text]: // a name of the author's own, such as a role
	case c.Key && !strings.ContainsAny(text, ":/"):
		s.Add(c.At, findings.Error, "reference", "%q is no full entity reference, and nothing gives it to anybody, so that "+
			"nobody has it; write %s, or give it to somebody where it is a name of your own, such as a role", text,
			fullRef(low, user))
	default:
		s.Add(c.At, findings.Error, "reference", "%q is no full entity reference, so that it is nobody; write %s", text,
			fullRef(low, user))
	}
}

// claimKind is whether claims are of a kind: users and groups, and what the people of the
// inventory have besides.
func (s *Source) claimKind(kind string) bool {
	if kind == "user" || kind == "group" {
		return true
	}
	for _, person := range s.Words.Inventory.People {
		if slices.ContainsFunc(person.Claims, func(claim string) bool { return strings.HasPrefix(claim, kind+":") }) {
			return true
		}
	}
	return false
}

// fullRef is the reference that a short one most likely means.
func fullRef(text string, user bool) string {
	text = strings.TrimSpace(text)
	kind, rest, ok := strings.Cut(text, ":")
	if !ok {
		kind, rest = "group", text
		if user {
			kind = "user"
		}
	}
	if !strings.Contains(rest, "/") {
		rest = "default/" + rest
	}
	return strings.ReplaceAll(kind+":"+rest, " ", "-")
}

// checkPattern looks for a permission, or the form of a reference, that a pattern
// matches.
func (s *Source) checkPattern(p reading.Pattern) {
	kinds := p.Text.Root().Kinds | p.Text.Root().Loose
	for _, c := range s.texts[p.Pattern.Root()] {
		if c.Free || c.Test {
			continue
		}
		matches := matcher(p.Builtin, c.Text)
		if matches == nil {
			continue
		}
		switch {
		case kinds == reading.PermissionName:
			if !slices.ContainsFunc(s.Words.permissions, matches) && !s.ownPattern(c.Text) {
				s.Add(c.At, findings.Error, "permission", "%s finds no permission: none %s%s", p.Builtin,
					matched(p.Builtin, c.Text),
					patternHint(p.Builtin, c.Text, s.Words.permissions))
			}
		case kinds == reading.ResourceType:
			if !slices.ContainsFunc(s.Words.resourceTypes, matches) {
				s.Add(c.At, findings.Error, "resource-type", "%s finds no resource type: none %s", p.Builtin,
					matched(p.Builtin, c.Text))
			}
		case kinds == reading.Action:
			if !slices.ContainsFunc([]string{"create", "read", "update", "delete"}, matches) {
				s.Add(c.At, findings.Error, "action", "%s finds no action: none %s; write create, read, update or delete",
					p.Builtin,
					matched(p.Builtin, c.Text))
			}
		case kinds != 0 && kinds&^reading.AnyRef == 0:
			if p.Builtin == "regex.match" && p.Text.Root().Kinds != 0 && hasCapital(c.Text) {
				s.Add(c.At, findings.Error, "reference", "Backstage writes references in lower case, so that none %s; write "+
					"capitals in lower case, or (?i) first", matched(p.Builtin, c.Text))
			}
			if p.Builtin != "regex.match" && c.Text != strings.ToLower(c.Text) && p.Text.Root().Kinds != 0 {
				s.Add(c.At, findings.Error, "reference", "Backstage writes references in lower case, so that none %s; write %q",
					matched(p.Builtin, c.Text), strings.ToLower(c.Text))
			}
		}
	}
}

// hasCapital is whether what a pattern matches has a capital, whatever else it has.
func hasCapital(pattern string) bool {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return false
	}
	var visit func(re *syntax.Regexp) bool
	visit = func(re *syntax.Regexp) bool {
		switch re.Op {
		case syntax.OpLiteral:
			return re.Flags&syntax.FoldCase == 0 && slices.ContainsFunc(re.Rune, unicode.IsUpper)
		case syntax.OpConcat, syntax.OpCapture, syntax.OpPlus:
			return slices.ContainsFunc(re.Sub, visit)
		}
		return false
	}
	return visit(parsed)
}

func (s *Source) ownPattern(text string) bool {
	for plugin := range s.Words.Own {
		if strings.Contains(text, plugin) {
			return true
		}
	}
	return false
}

func matched(builtin, text string) string {
	verb := map[string]string{"startswith": "begins with", "endswith": "ends in", "contains": "contains"}[builtin]
	return cmp.Or(verb, "matches") + " " + text
}

func patternHint(builtin, text string, among []string) string {
	if builtin != "startswith" {
		return ""
	}
	var heads []string
	for _, name := range among {
		if parts := strings.Count(strings.TrimSuffix(text, "."), ".") + 1; strings.Count(name, ".") >= parts-1 {
			split := strings.Split(name, ".")
			heads = append(heads, strings.Join(split[:min(parts, len(split))], "."))
		}
	}
	return orNearest(strings.TrimSuffix(text, "."), heads)
}

func matcher(builtin, text string) func(string) bool {
	switch builtin {
	case "startswith":
		return func(s string) bool { return strings.HasPrefix(s, text) }
	case "endswith":
		return func(s string) bool { return strings.HasSuffix(s, text) }
	case "contains":
		return func(s string) bool { return strings.Contains(s, text) }
	case "regex.match":
		if re, err := regexp.Compile(text); err == nil {
			return re.MatchString
		}
	case "glob.match":
		if g, err := glob.Compile(text, '.'); err == nil {
			return g.Match
		}
	}
	return nil
}

// checkDataRefs looks for what no file and no bundle has.
func (s *Source) checkDataRefs() {
	negated := s.underNot()
	for _, use := range s.Refs {
		if len(use.Path) == 0 || s.isRule(use.Path) {
			continue
		}
		ok, beside := s.Data.Has(use.Path)
		if ok || s.covered(use.Path) || s.Data.Described(use.Path) {
			continue
		}
		if !s.reaches(use.Path) {
			for _, name := range slices.Sorted(maps.Keys(s.Defined)) {
				if parts := ast.MustParseRef(name); len(parts) == len(use.Path)+1 {
					beside = append(beside, plainStep(parts[len(parts)-1]))
				}
			}
		}
		last := use.Path[min(s.known(use.Path), len(use.Path)-1)]
		holds := "so the rule that reads it never holds here"
		switch {
		case use.List:
			holds = "so the list that is made of it is empty"
		case use.Negated:
			holds = "so what stands under not here holds for everybody, or the body fails"
		case use.Rule != nil && negated[use.Rule.Ref().GroundPrefix().String()]:
			holds = fmt.Sprintf("so %s never holds, and not %s is true for everybody", shortName(use.Rule), shortName(use.Rule))
		}
		s.Add(use.At, findings.Error, "data",
			"no file of the bundle has %s, and no other bundle that is checked with it%s; it "+
				"is undefined, %s",
			datafiles.PathText(use.Path), orNearest(last, beside), holds)
	}
}

func plainStep(t *ast.Term) string { return strings.Trim(t.String(), `"`) }

func shortName(r *ast.Rule) string {
	ref := r.Ref().GroundPrefix()
	return plainStep(ref[len(ref)-1])
}

// known is how many steps of the path the data has.
func (s *Source) known(path []string) int {
	for n := len(path) - 1; n > 0; n-- {
		if ok, _ := s.Data.Has(path[:n]); ok || s.Parts[refOf(path[:n]).String()] {
			return n
		}
	}
	return 0
}

func refOf(path []string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, step := range path {
		ref = append(ref, ast.StringTerm(step))
	}
	return ref
}

// isRule is whether a path leads to a rule, into its value, or to packages.
func (s *Source) isRule(path []string) bool {
	ref := refOf(path)
	if s.Parts[ref.String()] {
		return true
	}
	for i := 2; i <= len(ref); i++ {
		if s.Defined[ref[:i].String()] != nil {
			return true
		}
	}
	return strings.HasPrefix(strings.Join(path, "/")+"/", "backstage/") && libraryHas(path)
}

// reaches is whether the path is below a package of the policy.
func (s *Source) reaches(path []string) bool { return s.Parts[refOf(path[:1]).String()] }

// covered is whether another bundle owns the path.
func (s *Source) covered(steps []string) bool {
	at := strings.Join(steps, "/") + "/"
	for _, root := range s.roots {
		root = strings.Trim(root, "/") + "/"
		if strings.HasPrefix(at, root) || strings.HasPrefix(root, at) {
			return true
		}
	}
	return strings.HasPrefix(at, "system/")
}

// underNot are the paths of rules that stand under a not somewhere.
func (s *Source) underNot() map[string]bool {
	under := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Modules)) {
		module := s.Modules[name]
		ast.WalkExprs(module, func(e *ast.Expr) bool {
			if !e.Negated {
				return false
			}
			note := func(ref ast.Ref) {
				if head, ok := ref[0].Value.(ast.Var); ok {
					under[module.Package.Path.Append(ast.StringTerm(string(head))).String()] = true
				}
				under[ref.GroundPrefix().String()] = true
			}
			ast.WalkTerms(e, func(t *ast.Term) bool {
				switch v := t.Value.(type) {
				case ast.Ref:
					note(v)
				case ast.Var:
					note(ast.Ref{t})
				}
				return false
			})
			return false
		})
	}
	return under
}
