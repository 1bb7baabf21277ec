package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// An installation is what the sources say.
type installation struct {
	settings

	lines    []line
	bindings []binding
	policies []policy
	// groups is nil where nothing is known of groups.
	groups map[string][]string
	// stored is whether the sources are what the plugin has stored, and not what it has yet
	// to read. Of files it skips what it does not like.
	stored bool
}

// The role that the plugin gives to admin.users.
const adminRole = "role:default/rbac_admin"

// judge decides what the plugin makes of an installation: what it keeps, and what it
// skips. Nothing is skipped without a finding.
func judge(in *installation, known *inventory.Inventory) *judgement {
	j := &judgement{in: in, known: newNames(known), held: &model{
		settings: in.settings, permissions: map[string]map[string]map[string]string{},
		roles: map[string][]string{}, groups: in.groups,
	}}
	j.bindingsOf()
	j.linesOf()
	j.policiesOf()
	j.settingsOf()
	j.useless()
	slices.SortStableFunc(j.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.at.File, b.at.File), cmp.Compare(a.at.Line, b.at.Line))
	})
	sortFindings(j.found)
	return j
}

type judgement struct {
	in    *installation
	known names
	held  *model
	rows  []row
	found []Finding
	// keptLines and keptBindings are those that count.
	keptLines    []line
	keptBindings []binding
}

// A row says what became of something in the sources.
type row struct {
	at Place
	// span is its lines where there are several, such as 3-17.
	span         string
	what, became string
}

func (j *judgement) find(at Place, severity Severity, code, format string, args ...any) {
	j.found = append(j.found, Finding{at, severity, code, fmt.Sprintf(format, args...)})
}

// leaveOut records something that the plugin skips.
func (j *judgement) leaveOut(at Place, span, what, code, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	j.find(at, Wrong, code, "%s", text)
	j.rows = append(j.rows, row{at, span, what, "left out: " + text})
}

func (j *judgement) keep(at Place, span, what, format string, args ...any) {
	j.rows = append(j.rows, row{at, span, what, fmt.Sprintf(format, args...)})
}

// fromConfiguration are the roles that the plugin makes of the app-config. It takes
// nothing about them from files.
func (j *judgement) fromConfiguration(role string) bool {
	return !j.in.stored && (role == adminRole || role == j.in.defaultRole)
}

func (b binding) String() string { return "g, " + b.written + ", " + b.role }

func (l line) String() string {
	return strings.Join([]string{"p", l.subject, l.object, l.action, l.effect}, ", ")
}

func (p policy) String() string {
	mapping := make([]string, len(p.mapping))
	for i, m := range p.mapping {
		mapping[i] = m.String()
	}
	return fmt.Sprintf("condition of %s for %s: %s", p.role, p.resourceType, strings.Join(mapping, "; "))
}

func (j *judgement) bindingsOf() {
	count := map[[2]string]int{}
	for _, b := range j.in.bindings {
		count[[2]string{b.member, b.role}]++
	}
	for _, b := range j.in.bindings {
		what := b.String()
		errMember, errRole := checkRef(b.member, "user", "group"), checkRef(b.role, "role")
		switch {
		case strings.HasPrefix(b.member, "role:"):
			j.leaveOut(b.at, "", what, "role-of-role", "a role cannot have a role; the plugin skips it")
		case errMember != nil:
			j.leaveOut(b.at, "", what, "reference", "%v; the plugin skips it", errMember)
		case errRole != nil:
			j.leaveOut(b.at, "", what, "reference", "%v; the plugin skips it", errRole)
		case j.fromConfiguration(b.role):
			j.leaveOut(b.at, "", what, "from-configuration", "%s is made of the app-config; the plugin skips it here", b.role)
		case count[[2]string{b.member, b.role}] > 1 && !j.in.stored:
			j.leaveOut(b.at, "", what, "twice", "stands %d times; the plugin adds none of them, so delete the others",
				count[[2]string{b.member, b.role}])
		default:
			if hasCapitals(b.written) {
				j.find(b.at, Note, "capitals", "%s is written %s, as the plugin stores it", b.written, b.member)
			}
			j.keep(b.at, "", what, "data.rbac_members.bindings[%q]", b.member)
			j.bind(b)
		}
	}
	for _, admin := range j.in.admins {
		member := strings.ToLower(admin.name)
		if err := checkRef(member, "user", "group"); err != nil {
			j.find(admin.at, Wrong, "reference", "%v; the plugin does not start with it", err)
			continue
		}
		j.bind(binding{at: admin.at, member: member, role: adminRole, written: admin.name})
	}
}

func (j *judgement) bind(b binding) {
	j.keptBindings = append(j.keptBindings, b)
	if !slices.Contains(j.held.roles[b.member], b.role) {
		j.held.roles[b.member] = append(j.held.roles[b.member], b.role)
	}
}

func (j *judgement) linesOf() {
	type key struct{ subject, object, action, effect string }
	count := map[key]int{}
	for _, l := range j.in.lines {
		count[key{l.subject, l.object, l.action, l.effect}]++
	}
	for _, l := range j.in.lines {
		what := l.String()
		other := "allow"
		if l.effect == "allow" {
			other = "deny"
		}
		times := count[key{l.subject, l.object, l.action, l.effect}]
		contradicted := count[key{l.subject, l.object, l.action, other}] > 0
		err := checkRef(l.subject, "role", "user", "group")
		switch {
		case err != nil:
			j.leaveOut(l.at, "", what, "reference", "%v; the plugin skips it", err)
		case l.object == "" || strings.Contains(l.object, `"`):
			j.leaveOut(l.at, "", what, "permission", "no permission name or resource type; the plugin skips it")
		case !slices.Contains(actions, l.action):
			j.leaveOut(l.at, "", what, "action", "the action %q is none of %s; the plugin skips it%s", l.action,
				strings.Join(actions, ", "), didYouMean(l.action, actions))
		case l.effect != "allow" && l.effect != "deny":
			j.leaveOut(l.at, "", what, "effect", "the effect %q is neither allow nor deny; the plugin skips it", l.effect)
		case j.fromConfiguration(l.subject):
			j.leaveOut(l.at, "", what, "from-configuration", "%s is made of the app-config; the plugin skips it here", l.subject)
		case hasCapitals(l.subject) && !strings.HasPrefix(l.subject, "role:"):
			j.leaveOut(l.at, "", what, "never-applies",
				"%s has capitals, and such lines are compared as they are written, so it is nobody", l.subject)
		case j.in.stored || times == 1 && !contradicted:
			j.keep(l.at, "", what, "data.rbac.permissions[%q][%q][%q]", l.subject, l.object, l.action)
			j.hold(l)
		case l.effect == "allow" && contradicted:
			j.leaveOut(l.at, "", what, "contradiction",
				"the same is denied on another line; the plugin skips both, so delete one")
		case l.effect == "allow":
			j.leaveOut(l.at, "", what, "twice", "stands %d times; the plugin adds none of them, so delete the others", times)
		default:
			text := fmt.Sprintf("stands %d times; the plugin adds none of them. Here it denies. Delete the others", times)
			code := "twice"
			if contradicted {
				code, text = "contradiction", "the same is allowed on another line; the plugin skips both. Here it denies. "+
					"Delete one"
			}
			j.find(l.at, Wrong, code, "%s", text)
			j.keep(l.at, "", what, "data.rbac.permissions[%q][%q][%q]: %s", l.subject, l.object, l.action, text)
			j.hold(l)
		}
	}
	for _, l := range j.in.defaults {
		j.hold(l)
	}
	if len(j.in.admins) > 0 {
		for _, of := range [][2]string{
			{"policy-entity", "read"}, {"policy-entity", "update"}, {"policy-entity", "delete"},
			{"policy.entity.create", "create"}, {"catalog-entity", "read"},
		} {
			j.hold(line{at: j.in.admins[0].at, subject: adminRole, object: of[0], action: of[1], effect: "allow"})
		}
	}
}

// hold adds a line to the model. A denial stays one.
func (j *judgement) hold(l line) {
	j.keptLines = append(j.keptLines, l)
	of := j.held.permissions[l.subject]
	if of == nil {
		of = map[string]map[string]string{}
		j.held.permissions[l.subject] = of
	}
	if of[l.object] == nil {
		of[l.object] = map[string]string{}
	}
	if of[l.object][l.action] != "deny" {
		of[l.object][l.action] = l.effect
	}
}

func (j *judgement) policiesOf() {
	hasMember := map[string]bool{}
	for _, b := range j.keptBindings {
		hasMember[b.role] = true
	}
	var stopped Place // where the plugin stops reading the file
	for _, p := range j.in.policies {
		what := p.String()
		switch {
		case stopped.File != "" && !j.in.stored:
			j.leaveOut(p.at, p.span(), what, "after-collision",
				"the plugin takes nothing of the file after the collision at %s; mend that", stopped)
			continue
		case !j.in.stored && j.fromConfiguration(p.role):
			j.leaveOut(p.at, p.span(), what, "from-configuration",
				"%s is made of the app-config; the plugin skips its conditions", p.role)
			continue
		case !j.in.stored && !hasMember[p.role]:
			j.leaveOut(p.at, p.span(), what, "undefined-role",
				"the CSV gives %s to nobody, so the plugin skips its conditions%s",
				p.role, didYouMean(p.role, slices.Sorted(maps.Keys(hasMember))))
			continue
		}
		if p.result != "CONDITIONAL" {
			j.find(p.at, Warning, "result", "the result %q counts as CONDITIONAL", p.result)
		}
		for _, name := range p.others {
			j.find(p.at, Warning, "unknown-key", "%s is no key of a conditional policy%s", name,
				didYouMean(name, []string{"result", "roleEntityRef", "pluginId", "resourceType", "permissionMapping",
					"conditions"}))
		}
		j.mappingOf(p)
		j.rulesOf(p)
		became := fmt.Sprintf("data.rbac.conditions[%q][%q]", p.role, p.resourceType)
		var collisions []mapped
		for _, earlier := range j.held.policies {
			both := earlier.collides(p)
			if len(both) == 0 {
				continue
			}
			collisions = append(collisions, both...)
			j.find(p.at, Wrong, "collision",
				"%s has another condition for %s, %s at %s. Two deny; of a file the plugin takes the first, and nothing from "+
					"here on",
				p.role, p.resourceType, both[0], earlier.at)
		}
		if len(collisions) > 0 && !j.in.stored {
			stopped = p.at
			p.mapping = collisions
			became += ", for what two conditions of the role are about, so that it is denied; the rest is left out, as by " +
				"the plugin"
		}
		j.keep(p.at, p.span(), what, "%s", became)
		j.held.policies = append(j.held.policies, p)
	}
}

// collides says about what two conditional policies of a role both are.
func (p policy) collides(other policy) []mapped {
	if p.role != other.role || p.resourceType != other.resourceType {
		return nil
	}
	var both []mapped
	for _, a := range p.mapping {
		for _, b := range other.mapping {
			if a.action == b.action && (a.name == b.name || a.name == "" || b.name == "") {
				both = append(both, mapped{at: b.at, name: cmp.Or(a.name, b.name), action: a.action})
			}
		}
	}
	return both
}

func (j *judgement) mappingOf(p policy) {
	if owners := j.known.owners[p.resourceType]; len(owners) > 0 && !slices.Contains(owners, p.pluginID) {
		j.find(p.at, Wrong, "plugin", "%s belongs to the plugin %s, not to %s", p.resourceType, strings.Join(owners,
			" or "), p.pluginID)
	}
	if len(j.known.ofType[p.resourceType]) == 0 {
		j.find(p.at, Warning, "unknown-type", "no plugin publishes a permission about %s%s", p.resourceType,
			didYouMean(p.resourceType, slices.Sorted(maps.Keys(j.known.ofType))))
		return
	}
	for _, m := range p.mapping {
		permission, ok := j.known.byName[m.name]
		switch {
		case m.name != "" && !ok:
			j.find(m.at, Warning, "unknown-permission", "no plugin publishes the permission %s%s", m.name,
				didYouMean(m.name, slices.Sorted(maps.Keys(j.known.byName))))
		case m.name != "" && permission.ResourceType != p.resourceType:
			j.find(m.at, Warning, "never-applies", "%s is not about %s, so the entry never applies", m.name, p.resourceType)
		case m.name != "" && actionOf(permission) != m.action:
			j.find(m.at, Warning, "never-applies", "%s has the action %s, so the entry never applies", m.name,
				actionOf(permission))
		case m.name == "" && !slices.ContainsFunc(j.known.ofType[p.resourceType], hasAction(m.action)):
			j.find(m.at, Warning, "never-applies", "no permission about %s has the action %s, so the entry never applies",
				p.resourceType, m.action)
		}
	}
}

func (j *judgement) rulesOf(p policy) {
	rules := j.known.rules[p.resourceType]
	for _, c := range p.condition.rules() {
		for _, name := range c.others {
			j.find(c.at, Warning, "unknown-key", "%s is no key of a rule%s", name, didYouMean(name, []string{"rule",
				"resourceType", "params"}))
		}
		aliases := unknownAliases(c)
		for _, alias := range aliases {
			j.find(alias.at, Wrong, "unknown-alias",
				"%s is no alias that is filled in here: $currentUser is one, as a text or in a list, and $ownerRefs in a "+
					"list. The condition gives nothing",
				alias.of)
		}
		rule, ok := rules[c.rule]
		switch {
		case c.resourceType != p.resourceType:
			j.find(c.at, Wrong, "resource-type", "%s is about %s, but the policy about %s. The condition gives nothing",
				c.rule, c.resourceType, p.resourceType)
		case len(rules) == 0: // nothing is known of the type
		case !ok:
			j.find(c.at, Wrong, "unknown-rule", "no plugin publishes the rule %s for %s%s", c.rule, p.resourceType,
				didYouMean(c.rule, slices.Sorted(maps.Keys(rules))))
		case len(aliases) == 0:
			for _, text := range wrongParams(rule, c) {
				j.find(c.at, Wrong, "params", "%s refuses the params: %s", c.rule, text)
			}
		}
	}
}

// wrongParams says what the schema of a rule has against the params, with aliases
// filled in for somebody.
func wrongParams(rule inventory.Rule, c condition) []string {
	schema, err := rule.Schema()
	if err != nil || schema == nil {
		return nil
	}
	params, _ := fill(c.params, caller{user: "user:default/someone",
		claims: []string{"user:default/someone"}}).(map[string]any)
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
	j.rows = append(j.rows, j.in.rows...)
	j.held.superusers = nil
	for _, s := range j.in.superusers {
		what := "superuser " + s.name
		if err := checkRef(s.name, "user", "group"); err != nil {
			j.leaveOut(s.at, "", what, "never-applies", "%v, so it is nobody", err)
		} else if hasCapitals(s.name) {
			j.leaveOut(s.at, "", what, "never-applies",
				"%s has capitals and is compared as it is written; references are in lower case, so it is nobody", s.name)
		} else {
			j.held.superusers = append(j.held.superusers, s)
		}
	}
}

// useless finds what has no effect.
func (j *judgement) useless() {
	hasLines, hasMember := map[string]bool{}, map[string]bool{j.in.defaultRole: true}
	for _, l := range j.keptLines {
		hasLines[l.subject] = true
	}
	for _, p := range j.held.policies {
		hasLines[p.role] = true
	}
	for _, b := range j.keptBindings {
		hasMember[b.role] = true
	}
	roles := slices.Sorted(maps.Keys(hasLines))
	said := map[string]bool{}
	once := func(what string) bool {
		first := !said[what]
		said[what] = true
		return first
	}
	toGroup := false
	for _, b := range j.keptBindings {
		if !hasLines[b.role] && once("role "+b.role) {
			j.find(b.at, Warning, "undefined-role", "%s has neither lines nor conditions%s", b.role, didYouMean(b.role, roles))
		}
		j.memberOf(b)
		toGroup = toGroup || strings.HasPrefix(b.member, "group:")
	}
	if toGroup && j.in.groups == nil {
		j.find(j.keptBindings[0].at, Note, "no-groups",
			"roles that are bound to a parent are its children's too, and nothing says which groups have parents; give "+
				"--catalog or --inventory")
	}
	for _, group := range slices.Sorted(maps.Keys(j.in.groups)) {
		if parents := j.in.groups[group]; len(parents) > 1 {
			j.find(Place{File: "groups"}, Warning, "several-parents",
				"%s has the parents %s; the plugin follows one of them, whichever its database names first. Here all "+
					"count", group, strings.Join(parents, ", "))
		}
	}
	for _, l := range j.keptLines {
		if strings.HasPrefix(l.subject, "role:") {
			if !hasMember[l.subject] && once("member "+l.subject) {
				j.find(l.at, Warning, "never-applies", "nobody has %s%s", l.subject, didYouMean(l.subject,
					slices.Sorted(maps.Keys(hasMember))))
			}
		} else {
			j.withoutRole(l)
		}
		j.targetOf(l)
		j.shadowed(l)
	}
}

func (j *judgement) memberOf(b binding) {
	if j.known.people != nil && strings.HasPrefix(b.member, "user:") && !j.known.people[b.member] {
		j.find(b.at, Warning, "unknown-member", "the inventory has no %s", b.member)
	}
	if j.known.groups != nil && strings.HasPrefix(b.member, "group:") && !j.known.groups[b.member] {
		j.find(b.at, Warning, "unknown-member", "the inventory has no %s", b.member)
	}
}

// withoutRole finds lines about users and groups that can never count.
func (j *judgement) withoutRole(l line) {
	_, isName := j.known.byName[l.object]
	switch {
	case j.in.defaultRole != "":
		j.find(l.at, Warning, "never-applies",
			"lines about users and groups count for those without any role, and everybody has %s", j.in.defaultRole)
	case len(j.held.roles[l.subject]) > 0:
		j.find(l.at, Warning, "never-applies",
			"lines about users and groups count for those without any role, and %s has "+
				"%s", l.subject, j.held.roles[l.subject][0])
	case isName && j.known.byName[l.object].ResourceType != "":
		j.find(l.at, Warning, "never-applies", "for those without any role, %s is looked up by its type %s alone",
			l.object, j.known.byName[l.object].ResourceType)
	case !isName && j.in.precedence == "basic":
		j.find(l.at, Warning, "never-applies", "with the precedence basic, those without any role have nothing of resources")
	}
}

// targetOf finds lines about permissions that nobody publishes.
func (j *judgement) targetOf(l line) {
	permission, isName := j.known.byName[l.object]
	ofType, isType := j.known.ofType[l.object]
	switch {
	case !isName && !isType:
		j.find(l.at, Warning, "unknown-permission", "no plugin publishes %s, as a permission or a type of resource%s",
			l.object,
			didYouMean(l.object, slices.Concat(slices.Sorted(maps.Keys(j.known.byName)),
				slices.Sorted(maps.Keys(j.known.ofType)))))
	case isName && actionOf(permission) != l.action:
		j.find(l.at, Warning, "never-applies", "%s has the action %s, so the line never applies", l.object,
			actionOf(permission))
	case !isName && !slices.ContainsFunc(ofType, hasAction(l.action)) && (l.object != "policy-entity" ||
		l.action != "create"):
		j.find(l.at, Warning, "never-applies", "no permission about %s has the action %s, so the line never applies",
			l.object, l.action)
	}
}

// shadowed finds lines that a condition of the same role always takes the place of.
func (j *judgement) shadowed(l line) {
	resourceType := l.object
	if permission, ok := j.known.byName[l.object]; ok {
		resourceType = permission.ResourceType
	}
	for _, p := range j.held.policies {
		if p.role != l.subject || p.resourceType != resourceType {
			continue
		}
		for _, m := range p.mapping {
			if m.action != l.action || m.name != "" && m.name != l.object {
				continue
			}
			if j.in.precedence == "basic" {
				j.find(m.at, Warning, "never-applies", "with the precedence basic, %s at %s takes the place of the condition",
					l, l.at)
			} else {
				j.find(l.at, Warning, "never-applies", "the condition of the same role at %s takes the line's place", p.at)
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
}

func newNames(known *inventory.Inventory) names {
	n := names{
		byName: map[string]inventory.Permission{}, ofType: map[string][]inventory.Permission{},
		rules: map[string]map[string]inventory.Rule{}, owners: map[string][]string{},
	}
	for _, p := range known.Permissions {
		n.byName[p.Name] = p
		if p.ResourceType != "" {
			n.ofType[p.ResourceType] = append(n.ofType[p.ResourceType], p)
		}
	}
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

// actionOf is the action of a permission as the plugin names it.
func actionOf(p inventory.Permission) string { return cmp.Or(p.Attributes.Action, "use") }

func hasAction(action string) func(inventory.Permission) bool {
	return func(p inventory.Permission) bool { return actionOf(p) == action }
}

// didYouMean names what of the known is spelt nearly so, as the end of a sentence.
func didYouMean(text string, known []string) string {
	best, distance := "", min(2, len(text)/3)
	for _, one := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(text), strings.ToLower(one)); d < distance ||
			d == distance && best == "" {
			best, distance = one, d
		}
	}
	if best == "" || best == text {
		return ""
	}
	return "; did you mean " + best + "?"
}
