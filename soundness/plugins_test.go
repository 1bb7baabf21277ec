package soundness

// The rule calls of each resource type.

var catalogPlugin = plugin{
	resourceType: "catalog-entity",
	module:       "catalog",
	permissions: []permission{
		{"catalog.entity.read", "read"}, {"catalog.entity.delete", "delete"}, {"catalog.entity.refresh", "update"},
		{"jenkins.execute", "update"},
	},
	ask: func(g *grammar, s scope) string {
		// A variable is used where there is one.
		rules := []string{"label", "owner", "kind", "label", "annotation", "metadata", "spec"}
		switch {
		case len(s.words) > 0:
			rules = []string{"label", "label", "annotation", "metadata", "spec", "kind"}
		case len(s.refs) > 0:
			rules = []string{"owner", "owner", "label", "annotation", "spec"}
		}
		switch g.pick(rules...) {
		case "owner":
			return g.call(s, "is_entity_owner", "claims", g.claims("owner", s))
		case "kind":
			if len(s.words) > 0 {
				return g.call(s, "is_entity_kind", "kinds", "["+g.pick(s.words...)+"]")
			}
			return g.call(s, "is_entity_kind", "kinds", g.list("kind", kinds...))
		case "annotation":
			return g.property(s, "has_annotation", "annotation", annotations)
		case "metadata":
			return g.property(s, "has_metadata", "key", metadataKeys)
		case "spec":
			return g.property(s, "has_spec", "key", specKeys)
		}
		return g.property(s, "has_label", "label", words)
	},
}

var (
	kinds       = []string{"Component", "API", "Group", "component", "team"}
	annotations = []string{
		"backstage.io/source-location", "github.com/project-slug", "team", "Frozen", "example.com/Long",
	}
	metadataKeys = []string{
		"name", "namespace", "title", "tags.java", "tags", "annotations.github.com/project-slug", "labels.team", "labels",
		"uid", "etag", "links.url", "team", "description", "annotations",
	}
	specKeys = []string{
		"lifecycle", "type", "owner", "system", "tags.go", "tags", "profile.email", "nested.level.deep", "nested",
		"count", "ratio", "enabled", "nothing", "list", "list.name", "team", "empty",
	}
	propertyValues = []string{
		"web", "true", "", "default", "production", "3", "0.5", "null", "group:default/web", "x@example.com", "java",
	}
)

// property draws a call of a rule with a key and perhaps a value.
func (g *grammar) property(s scope, rule, member string, keys []string) string {
	var key, text string
	if len(s.words) > 0 && !g.seldom() {
		key = g.term(rule, s.words, keys...)
	} else {
		key, text = g.text(rule, "", keys...)
	}
	if len(s.refs) == 0 && g.yes() {
		return g.call(s, rule, member, key)
	}
	from := values
	if rule == "has_metadata" || rule == "has_spec" {
		from = propertyValues
	}
	if len(s.refs) > 0 && !g.seldom() {
		return g.call(s, rule, member, key, "value", g.term(rule, s.refs, from...))
	}
	value, _ := g.text(rule, text, from...)
	return g.call(s, rule, member, key, "value", value)
}

var actionPlugin = plugin{
	resourceType: "scaffolder-action",
	module:       "scaffolder",
	permissions:  []permission{{"scaffolder.action.execute", ""}},
	ask: func(g *grammar, s scope) string {
		strings := append(append([]string{}, s.words...), s.refs...)
		switch g.pick("string", "id", "number", "boolean", "string") {
		case "id":
			return g.call(s, "has_action_id", "actionId", g.term("id", strings, actions...))
		case "number":
			if g.yes() {
				return g.call(s, "has_number_property", "key", g.term("key", nil, properties...))
			}
			return g.call(s, "has_number_property", "key", g.term("number", nil, properties...), "value", g.pick(numbers...))
		case "boolean":
			if g.yes() {
				return g.call(s, "has_boolean_property", "key", g.term("key", nil, properties...))
			}
			return g.call(s, "has_boolean_property", "key", g.term("key", nil, properties...),
				"value", g.pick("true", "false"))
		}
		key := g.term("key", s.words, properties...)
		if g.yes() && len(s.refs) == 0 {
			return g.call(s, "has_string_property", "key", key)
		}
		return g.call(s, "has_string_property", "key", key, "value", g.term("string", s.refs, inputs...))
	},
}

var (
	actions = []string{
		"fetch:template", "publish:github", "gitlab:group:ensureExists", "publish:bitbucketServer:pull-request",
		"debug:log", "mygithub:x", "team",
	}
	properties = []string{
		"owner", "repoName", "repoUrl", "projectId", "path", "a.b[0]", "a.b", "flag", "n", "list[1]", "team",
	}
	// As JavaScript writes them: the library cannot mirror other spellings.
	numbers = []string{"1", "42", "0", "-3", "0.5"}
	inputs  = []string{"web", "Web", "42", "042", "true", "", "github.com?owner=Web&repo=x", "group:default/web"}
)

var templatePlugin = plugin{
	resourceType: "scaffolder-template",
	module:       "scaffolder",
	permissions:  []permission{{"scaffolder.template.step.read", "read"}, {"scaffolder.template.parameter.read", "read"}},
	ask: func(g *grammar, s scope) string {
		strings := append(append([]string{}, s.words...), s.refs...)
		return g.call(s, "has_tag", "tag", g.term("tag", strings, words...))
	},
}

var taskPlugin = plugin{
	resourceType: "scaffolder-task",
	module:       "scaffolder",
	permissions:  []permission{{"scaffolder.task.read", "read"}, {"scaffolder.task.cancel", ""}},
	ask: func(g *grammar, s scope) string {
		if len(s.words) > 0 && (len(s.refs) == 0 || g.yes()) {
			return g.call(s, "is_task_owner", "createdBy", "["+g.pick(s.words...)+"]")
		}
		return g.call(s, "is_task_owner", "createdBy", g.claims("creator", s))
	},
}
