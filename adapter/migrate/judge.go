package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/migrate/enforcer"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// The role that the plugin gives to admin.users.
const adminRole = "role:default/rbac_admin"

// judge decides what the plugin makes of an installation: what it keeps, and what it
// skips. Nothing is skipped without a finding. The error is the context's.
func judge(ctx context.Context, in *installation.Installation, known *inventory.Inventory) (*judgement, error) {
	j := &judgement{in: in, known: newNames(known), held: &enforcer.Enforcer{
		Settings: in.Settings, Permissions: map[string]map[string]map[string]string{},
		Roles: map[string][]string{}, Groups: in.Groups,
	}}
	j.bindingsOf()
	j.linesOf()
	j.policiesOf()
	j.settingsOf()
	if err := j.useless(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(j.rows, func(a, b installation.Row) int {
		return cmp.Or(cmp.Compare(a.At.File, b.At.File), cmp.Compare(a.At.Line, b.At.Line))
	})
	installation.SortFindings(j.found)
	j.found = slices.Compact(j.found)
	return j, nil
}

type judgement struct {
	in    *installation.Installation
	known names
	held  *enforcer.Enforcer
	rows  []installation.Row
	found []installation.Finding
	// keptLines and keptBindings are those that count.
	keptLines    []installation.Line
	keptBindings []installation.Binding
}

func (j *judgement) find(at written.Place, severity installation.Severity, code, text string) {
	j.found = append(j.found, installation.Finding{Place: at, Severity: severity, Code: code, Text: text})
}

func (j *judgement) note(at written.Place, code, format string, args ...any) {
	j.find(at, installation.Note, code, fmt.Sprintf(format, args...))
}

func (j *judgement) warn(at written.Place, code, format string, args ...any) {
	j.find(at, installation.Warning, code, fmt.Sprintf(format, args...))
}

func (j *judgement) wrong(at written.Place, code, format string, args ...any) {
	j.find(at, installation.Wrong, code, fmt.Sprintf(format, args...))
}

// leaveOut records something that the plugin skips.
func (j *judgement) leaveOut(at written.Place, span, what, code, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	j.wrong(at, code, "%s", text)
	j.rows = append(j.rows, installation.Row{At: at, Span: span, What: what, Became: "left out: " + text})
}

func (j *judgement) keep(at written.Place, span, what, format string, args ...any) {
	j.rows = append(j.rows, installation.Row{At: at, Span: span, What: what, Became: fmt.Sprintf(format, args...)})
}

// fromConfiguration are the roles that the plugin makes of the app-config. It takes
// nothing about them from files.
func (j *judgement) fromConfiguration(role string) bool {
	return !j.in.Stored && (role == adminRole || role == j.in.DefaultRole)
}

func (j *judgement) bindingsOf() {
	count := map[[2]string]int{}
	for _, b := range j.in.Bindings {
		count[[2]string{b.Member, b.Role}]++
	}
	for _, b := range j.in.Bindings {
		what := b.String()
		errMember, errRole := installation.CheckRef(b.Member, "user", "group"), installation.CheckRef(b.Role, "role")
		switch {
		case strings.HasPrefix(b.Member, "role:"):
			j.leaveOut(b.At, "", what, "role-of-role", "a role cannot have a role; the plugin skips it")
		case errMember != nil:
			j.leaveOut(b.At, "", what, "reference", "%v; the plugin skips it", errMember)
		case errRole != nil:
			j.leaveOut(b.At, "", what, "reference", "%v; the plugin skips it", errRole)
		case hasCapitals(b.Member):
			j.leaveOut(b.At, "", what, "never-applies",
				"%s is stored with its capitals, and references are in lower case, so it is nobody", b.Member)
		case j.fromConfiguration(b.Role):
			j.leaveOut(b.At, "", what, "from-configuration", "%s is made of the app-config; the plugin skips it here", b.Role)
		case count[[2]string{b.Member, b.Role}] > 1 && !j.in.Stored:
			j.leaveOut(b.At, "", what, "twice", "stands %d times; the plugin adds none of them, so delete the others",
				count[[2]string{b.Member, b.Role}])
		default:
			if hasCapitals(b.Written) {
				j.note(b.At, "capitals", "%s is written %s, as the plugin stores it", b.Written, b.Member)
			}
			j.keep(b.At, "", what, "data.rbac_members.bindings[%q]", b.Member)
			j.bind(b)
		}
	}
	for _, admin := range j.in.Admins {
		member := installation.Lower(admin.Name)
		if err := installation.CheckRef(member, "user", "group"); err != nil {
			j.wrong(admin.At, "reference", "%v; the plugin does not start with it", err)
			continue
		}
		j.bind(installation.Binding{At: admin.At, Member: member, Role: adminRole, Written: admin.Name})
	}
}

func (j *judgement) bind(b installation.Binding) {
	j.keptBindings = append(j.keptBindings, b)
	if !slices.Contains(j.held.Roles[b.Member], b.Role) {
		j.held.Roles[b.Member] = append(j.held.Roles[b.Member], b.Role)
	}
}

func (j *judgement) linesOf() {
	type key struct{ subject, object, action, effect string }
	count := map[key]int{}
	for _, l := range j.in.Lines {
		count[key{l.Subject, l.Object, l.Action, l.Effect}]++
	}
	for _, l := range j.in.Lines {
		what := l.String()
		other := "allow"
		if l.Effect == "allow" {
			other = "deny"
		}
		times := count[key{l.Subject, l.Object, l.Action, l.Effect}]
		contradicted := count[key{l.Subject, l.Object, l.Action, other}] > 0
		err := installation.CheckRef(l.Subject, "role", "user", "group")
		switch {
		case err != nil:
			j.leaveOut(l.At, "", what, "reference", "%v; the plugin skips it", err)
		case l.Object == "" || strings.Contains(l.Object, `"`):
			j.leaveOut(l.At, "", what, "permission", "no permission name or resource type; the plugin skips it")
		case !slices.Contains(installation.Actions(), l.Action):
			j.leaveOut(l.At, "", what, "action", "the action %q is none of %s; the plugin skips it%s", l.Action,
				strings.Join(installation.Actions(), ", "), didYouMean(l.Action, spelling.NewNames(installation.Actions())))
		case l.Effect != "allow" && l.Effect != "deny":
			j.leaveOut(l.At, "", what, "effect", "the effect %q is neither allow nor deny; the plugin skips it", l.Effect)
		case j.fromConfiguration(l.Subject):
			j.leaveOut(l.At, "", what, "from-configuration", "%s is made of the app-config; the plugin skips it here", l.Subject)
		case hasCapitals(l.Subject) && !strings.HasPrefix(l.Subject, "role:"):
			j.leaveOut(l.At, "", what, "never-applies",
				"%s has capitals, and such lines are compared as they are written, so it is nobody", l.Subject)
		case j.in.Stored || times == 1 && !contradicted:
			j.keep(l.At, "", what, "data.rbac.permissions[%q][%q][%q]", l.Subject, l.Object, l.Action)
			j.hold(l)
		case l.Effect == "allow" && contradicted:
			j.leaveOut(l.At, "", what, "contradiction",
				"the same is denied on another line; the plugin skips both, so delete one")
		case l.Effect == "allow":
			j.leaveOut(l.At, "", what, "twice", "stands %d times; the plugin adds none of them, so delete the others", times)
		default:
			text := fmt.Sprintf("stands %d times; the plugin adds none of them. Here it denies. Delete the others", times)
			code := "twice"
			if contradicted {
				code, text = "contradiction", "the same is allowed on another line; the plugin skips both. Here it denies. "+
					"Delete one"
			}
			j.wrong(l.At, code, "%s", text)
			j.keep(l.At, "", what, "data.rbac.permissions[%q][%q][%q]: %s", l.Subject, l.Object, l.Action, text)
			j.hold(l)
		}
	}
	for _, l := range j.in.Defaults {
		j.hold(l)
	}
	var at written.Place // that makes somebody an administrator
	switch {
	case len(j.in.Admins) > 0:
		at = j.in.Admins[0].At
	case j.in.DefaultRole == adminRole && len(j.in.Defaults) > 0:
		at = j.in.Defaults[0].At
	default:
		return
	}
	for _, of := range [][2]string{
		{"policy-entity", "read"}, {"policy-entity", "update"}, {"policy-entity", "delete"},
		{"policy.entity.create", "create"}, {"catalog-entity", "read"},
	} {
		j.hold(installation.Line{At: at, Subject: adminRole, Object: of[0], Action: of[1], Effect: "allow"})
	}
}

// hold adds a line to the model. A denial stays one.
func (j *judgement) hold(l installation.Line) {
	j.keptLines = append(j.keptLines, l)
	of := j.held.Permissions[l.Subject]
	if of == nil {
		of = map[string]map[string]string{}
		j.held.Permissions[l.Subject] = of
	}
	if of[l.Object] == nil {
		of[l.Object] = map[string]string{}
	}
	if of[l.Object][l.Action] != "deny" {
		of[l.Object][l.Action] = l.Effect
	}
}

func (j *judgement) policiesOf() {
	hasMember := map[string]bool{}
	for _, b := range j.keptBindings {
		hasMember[b.Role] = true
	}
	var stopped, again written.Place // where the plugin stops reading the file, for good or until it starts again
	for _, p := range j.in.Policies {
		what := p.String()
		switch {
		case j.in.Stored:
		case stopped.File != "":
			j.leaveOut(p.At, p.Span(), what, "after-collision",
				"the plugin takes nothing of the file after the collision at %s; mend that", stopped)
			continue
		case j.fromConfiguration(p.Role):
			j.leaveOut(p.At, p.Span(), what, "from-configuration",
				"%s is made of the app-config; the plugin skips its conditions", p.Role)
			continue
		case !hasMember[p.Role]:
			j.leaveOut(p.At, p.Span(), what, "undefined-role",
				"the CSV gives %s to nobody, so the plugin skips its conditions%s",
				p.Role, didYouMean(p.Role, namesOf(hasMember)))
			continue
		}
		if p.Result != "CONDITIONAL" {
			j.warn(p.At, "result", "the result %q counts as CONDITIONAL", p.Result)
		}
		for _, name := range p.Others {
			j.warn(p.At, "unknown-key", "%s is no key of a conditional policy%s", name,
				didYouMean(name, spelling.NewNames([]string{"result", "roleEntityRef", "pluginId", "resourceType",
					"permissionMapping", "conditions"})))
		}
		j.mappingOf(p)
		j.rulesOf(p)
		became := fmt.Sprintf("data.rbac.conditions[%q][%q]", p.Role, p.ResourceType)
		switch c := j.collisionOf(p); {
		case c.same && !j.in.Stored:
			j.leaveOut(p.At, p.Span(), what, "twice",
				"the same stands at %s. The plugin takes nothing of the file from here on until it starts again; "+
					"delete one", c.with)
			again = p.At
			continue
		case again.File != "":
			j.wrong(p.At, "after-collision", "the plugin takes this only after it started again, since another stands twice "+
				"at %s. Here it denies. Mend that", again)
			j.keep(p.At, p.Span(), what, "%s, twice, so that what it is about is denied", became)
			j.held.Policies = append(j.held.Policies, p, p)
			continue
		case len(c.of) > 0 && c.refused && !j.in.Stored:
			stopped = p.At
			p.Mapping = c.of
			became += ", for what two conditions of the role are about, so that it is denied; the rest is left out, as by " +
				"the plugin"
		}
		j.keep(p.At, p.Span(), what, "%s", became)
		j.held.Policies = append(j.held.Policies, p)
	}
}

// A collision is what earlier policies of the same role are about, too.
type collision struct {
	with written.Place
	of   []installation.Mapped
	// refused is whether the plugin does not store the later one: it looks for such among
	// those of the same plugin. same is whether they say the same.
	refused, same bool
}

// collisionOf finds with what a policy collides, and says so.
func (j *judgement) collisionOf(p installation.Policy) collision {
	var c collision
	for _, earlier := range j.held.Policies {
		both := earlier.Collides(p)
		if len(both) == 0 {
			continue
		}
		if earlier.Is(p) && !j.in.Stored {
			return collision{with: earlier.At, same: true}
		}
		c.of = append(c.of, both...)
		then := "Two deny"
		if earlier.PluginID == p.PluginID {
			c.refused = true
			then = "Two deny; of a file the plugin takes the first, and nothing from here on"
		}
		j.wrong(p.At, "collision", "%s has another condition for %s, %s at %s. %s", p.Role, p.ResourceType, both[0],
			earlier.At, then)
	}
	return c
}

func (j *judgement) mappingOf(p installation.Policy) {
	if owners := j.known.owners[p.ResourceType]; len(owners) > 0 && !slices.Contains(owners, p.PluginID) {
		j.wrong(p.At, "plugin", "%s belongs to the plugin %s, not to %s", p.ResourceType, strings.Join(owners,
			" or "), p.PluginID)
	}
	if len(j.known.ofType[p.ResourceType]) == 0 {
		j.warn(p.At, "unknown-type", "no plugin publishes a permission about %s%s", p.ResourceType,
			didYouMean(p.ResourceType, namesOf(j.known.ofType)))
		return
	}
	for _, m := range p.Mapping {
		permission, ok := j.known.byName[m.Name]
		switch {
		case m.Name != "" && !ok:
			j.warn(m.At, "unknown-permission", "no plugin publishes the permission %s%s", m.Name,
				didYouMean(m.Name, namesOf(j.known.byName)))
		case m.Name != "" && permission.ResourceType != p.ResourceType:
			j.warn(m.At, "never-applies", "%s is not about %s, so the entry never applies", m.Name, p.ResourceType)
		case m.Name != "" && enforcer.ActionOf(permission) != m.Action:
			j.warn(m.At, "never-applies", "%s has the action %s, so the entry never applies", m.Name,
				enforcer.ActionOf(permission))
		case m.Name == "" && !slices.ContainsFunc(j.known.ofType[p.ResourceType], hasAction(m.Action)):
			j.warn(m.At, "never-applies", "no permission about %s has the action %s, so the entry never applies",
				p.ResourceType, m.Action)
		}
	}
}

func (j *judgement) rulesOf(p installation.Policy) {
	rules := j.known.rules[p.ResourceType]
	for _, c := range p.Condition.Rules() {
		for _, name := range c.Others {
			j.warn(c.At, "unknown-key", "%s is no key of a rule%s", name, didYouMean(name,
				spelling.NewNames([]string{"rule", "resourceType", "params"})))
		}
		aliases := c.UnknownAliases()
		for _, alias := range aliases {
			j.wrong(alias.At, "unknown-alias",
				"%s is no alias that is filled in here: $currentUser is one, as a text or in a list, and $ownerRefs in a "+
					"list. The condition gives nothing",
				alias.Of)
		}
		rule, ok := rules[c.Rule]
		switch {
		case c.ResourceType != p.ResourceType:
			j.wrong(c.At, "resource-type", "%s is about %s, but the policy about %s. The condition gives nothing",
				c.Rule, c.ResourceType, p.ResourceType)
		case len(rules) == 0: // nothing is known of the type
		case !ok:
			j.wrong(c.At, "unknown-rule", "no plugin publishes the rule %s for %s%s", c.Rule, p.ResourceType,
				didYouMean(c.Rule, namesOf(rules)))
		case len(aliases) == 0:
			for _, text := range wrongParams(rule, c) {
				j.wrong(c.At, "params", "%s refuses the params: %s", c.Rule, text)
			}
		}
	}
}

// wrongParams says what the schema of a rule has against the params, with aliases
// filled in for somebody.
func wrongParams(rule inventory.Rule, c installation.Condition) []string {
	schema, err := rule.Schema()
	if err != nil || schema == nil {
		return nil
	}
	params, _ := enforcer.Fill(c.Params, enforcer.Caller{User: "user:default/someone",
		Claims: []string{"user:default/someone"}}).(map[string]any)
	if params == nil {
		params = map[string]any{}
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](schema.Validate(params))
	if !ok {
		return nil
	}
	var texts []string
	var leaves func(e *jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			leaves(cause)
		}
		if len(e.Causes) == 0 {
			text := e.Error()
			text = strings.TrimSpace(text[strings.LastIndex(text, "\n- at ")+1:])
			texts = append(texts, strings.TrimPrefix(text, "- "))
		}
	}
	leaves(invalid)
	slices.Sort(texts)
	return slices.Compact(texts)
}

func (j *judgement) settingsOf() {
	j.rows = append(j.rows, j.in.Rows...)
	j.held.Superusers = nil
	for _, s := range j.in.Superusers {
		what := "superuser " + s.Name
		if err := installation.CheckRef(s.Name, "user", "group"); err != nil {
			j.leaveOut(s.At, "", what, "never-applies", "%v, so it is nobody", err)
		} else if hasCapitals(s.Name) {
			j.leaveOut(s.At, "", what, "never-applies",
				"%s has capitals and is compared as it is written; references are in lower case, so it is nobody", s.Name)
		} else {
			j.held.Superusers = append(j.held.Superusers, s)
		}
	}
}

// useless finds what has no effect. The error is the context's.
func (j *judgement) useless(ctx context.Context) error {
	hasLines, hasMember := map[string]bool{}, map[string]bool{j.in.DefaultRole: true}
	for _, l := range j.keptLines {
		hasLines[l.Subject] = true
	}
	for _, p := range j.held.Policies {
		hasLines[p.Role] = true
	}
	for _, b := range j.keptBindings {
		hasMember[b.Role] = true
	}
	withLines, withMember := namesOf(hasLines), namesOf(hasMember)
	said := map[string]bool{}
	once := func(what string) bool {
		first := !said[what]
		said[what] = true
		return first
	}
	var toGroup, restricted *installation.Binding
	restricts := map[string]bool{}
	for _, p := range j.held.Policies {
		restricts[p.Role] = true
	}
	for _, l := range j.keptLines {
		restricts[l.Subject] = restricts[l.Subject] || l.Effect == "deny"
	}
	for _, b := range j.keptBindings {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if !hasLines[b.Role] && once("role "+b.Role) {
			j.warn(b.At, "undefined-role", "%s has neither lines nor conditions%s", b.Role, didYouMean(b.Role, withLines))
		}
		j.memberOf(b)
		if strings.HasPrefix(b.Member, "group:") {
			toGroup = cmp.Or(toGroup, &b)
			if restricts[b.Role] {
				restricted = cmp.Or(restricted, &b)
			}
		}
	}
	switch {
	case j.in.Groups != nil:
	case restricted != nil:
		j.warn(restricted.At, "no-groups",
			"%s denies or has conditions, and is bound to a group. Its children have the role too, and nothing says which "+
				"these are, so they may do more here; give --catalog or --inventory", restricted.Role)
	case toGroup != nil:
		j.note(toGroup.At, "no-groups",
			"roles that are bound to a parent are its children's too, and nothing says which groups have parents; give "+
				"--catalog or --inventory")
	}
	for _, group := range slices.Sorted(maps.Keys(j.in.Groups)) {
		if parents := j.in.Groups[group]; len(parents) > 1 {
			j.warn(written.Place{File: "groups"}, "several-parents",
				"%s has the parents %s; the plugin follows one of them, whichever its database names first. Here all "+
					"count", group, strings.Join(parents, ", "))
		}
	}
	for _, l := range j.keptLines {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if strings.HasPrefix(l.Subject, "role:") {
			if !hasMember[l.Subject] && once("member "+l.Subject) {
				j.warn(l.At, "never-applies", "nobody has %s%s", l.Subject, didYouMean(l.Subject, withMember))
			}
		} else {
			j.withoutRole(l)
		}
		j.targetOf(l)
		j.shadowed(l)
	}
	return nil
}

func (j *judgement) memberOf(b installation.Binding) {
	if j.known.people != nil && strings.HasPrefix(b.Member, "user:") && !j.known.people[b.Member] {
		j.warn(b.At, "unknown-member", "the inventory has no %s", b.Member)
	}
	if j.known.groups != nil && strings.HasPrefix(b.Member, "group:") && !j.known.groups[b.Member] {
		j.warn(b.At, "unknown-member", "the inventory has no %s", b.Member)
	}
}

// withoutRole finds lines about users and groups that can never count.
func (j *judgement) withoutRole(l installation.Line) {
	_, isName := j.known.byName[l.Object]
	switch {
	case j.in.DefaultRole != "":
		j.warn(l.At, "never-applies",
			"lines about users and groups count for those without any role, and everybody has %s", j.in.DefaultRole)
	case len(j.held.Roles[l.Subject]) > 0:
		j.warn(l.At, "never-applies",
			"lines about users and groups count for those without any role, and %s has "+
				"%s", l.Subject, j.held.Roles[l.Subject][0])
	case isName && j.known.byName[l.Object].ResourceType != "":
		j.warn(l.At, "never-applies", "for those without any role, %s is looked up by its type %s alone",
			l.Object, j.known.byName[l.Object].ResourceType)
	case !isName && j.in.Precedence == "basic":
		j.warn(l.At, "never-applies", "with the precedence basic, those without any role have nothing of resources")
	}
}

// targetOf finds lines about permissions that nobody publishes.
func (j *judgement) targetOf(l installation.Line) {
	permission, isName := j.known.byName[l.Object]
	ofType, isType := j.known.ofType[l.Object]
	switch {
	case !isName && !isType:
		j.warn(l.At, "unknown-permission", "no plugin publishes %s, as a permission or a type of resource%s",
			l.Object,
			j.known.didYouMean(l.Object))
	case isName && enforcer.ActionOf(permission) != l.Action:
		j.warn(l.At, "never-applies", "%s has the action %s, so the line never applies", l.Object,
			enforcer.ActionOf(permission))
	case !isName && !slices.ContainsFunc(ofType, hasAction(l.Action)) && (l.Object != "policy-entity" ||
		l.Action != "create"):
		j.warn(l.At, "never-applies", "no permission about %s has the action %s, so the line never applies",
			l.Object, l.Action)
	}
}

// shadowed finds lines that a condition of the same role always takes the place of.
func (j *judgement) shadowed(l installation.Line) {
	resourceType := l.Object
	if permission, ok := j.known.byName[l.Object]; ok {
		resourceType = permission.ResourceType
	}
	for _, p := range j.held.Policies {
		if p.Role != l.Subject || p.ResourceType != resourceType {
			continue
		}
		for _, m := range p.Mapping {
			if m.Action != l.Action || m.Name != "" && m.Name != l.Object {
				continue
			}
			if j.in.Precedence == "basic" {
				j.warn(m.At, "never-applies", "with the precedence basic, %s at %s takes the place of the condition",
					l, l.At)
			} else {
				j.warn(l.At, "never-applies", "the condition of the same role at %s takes the line's place", p.At)
			}
		}
	}
}

// names is what an inventory knows, by name.
type names struct {
	byName         map[string]inventory.Permission
	ofType         map[string][]inventory.Permission
	rules          map[string]map[string]inventory.Rule
	owners         map[string][]string
	people, groups map[string]bool
	// all are the names and types of permissions, and meant is what was said of others.
	all   spelling.Names
	meant map[string]string
}

// didYouMean says of a name that nobody publishes which is meant. Many lines have the same.
func (n names) didYouMean(name string) string {
	text, said := n.meant[name]
	if !said {
		text = didYouMean(name, n.all)
		n.meant[name] = text
	}
	return text
}

func newNames(known *inventory.Inventory) names {
	n := names{
		byName: map[string]inventory.Permission{}, ofType: map[string][]inventory.Permission{},
		rules: map[string]map[string]inventory.Rule{}, owners: map[string][]string{}, meant: map[string]string{},
	}
	for _, p := range known.Permissions {
		n.byName[p.Name] = p
		if p.ResourceType != "" {
			n.ofType[p.ResourceType] = append(n.ofType[p.ResourceType], p)
		}
	}
	n.all = spelling.NewNames(slices.Concat(slices.Collect(maps.Keys(n.byName)), slices.Collect(maps.Keys(n.ofType))))
	for _, r := range known.Rules {
		if n.rules[r.ResourceType] == nil {
			n.rules[r.ResourceType] = map[string]inventory.Rule{}
			n.owners[r.ResourceType] = known.Owners(r.ResourceType)
		}
		n.rules[r.ResourceType][r.Name] = r
	}
	if known.People != nil {
		n.people = map[string]bool{}
		for ref := range known.People {
			n.people[ref] = true
		}
	}
	if known.Groups != nil {
		n.groups = map[string]bool{}
		for ref := range known.Groups {
			n.groups[ref] = true
		}
	}
	return n
}

func hasAction(action string) func(inventory.Permission) bool {
	return func(p inventory.Permission) bool { return enforcer.ActionOf(p) == action }
}

// namesOf are the names that something is filed under.
func namesOf[T any](filed map[string]T) spelling.Names {
	return spelling.NewNames(slices.Collect(maps.Keys(filed)))
}

// didYouMean names what of the known is meant, as the end of a sentence.
func didYouMean(text string, known spelling.Names) string {
	if meant := known.Meant(text); meant != "" {
		return "; did you mean " + meant + "?"
	}
	return ""
}

func hasCapitals(text string) bool { return strings.ToLower(text) != text }
