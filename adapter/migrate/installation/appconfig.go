package installation

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/appconfig"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// Settings are what the plugin reads of the app-config.
type Settings struct {
	Admins, Superusers []Named
	Precedence         string
	DefaultRole        string
	Defaults           []Line
	// MaxDepth is nil where there is no bound.
	MaxDepth *int
	// Bounds are those of conditional policies.
	Bounds               Bounds
	UseOwnershipEntities bool
	// Rows say what became of each key, for the report.
	Rows []Row
}

// Named is somebody whom the app-config names.
type Named struct {
	At   written.Place
	Name string
}

// readSettings reads permission.rbac of the files, merged as Backstage merges them.
func readSettings(files, environ []string) (Settings, []Finding, []Finding) {
	s := Settings{Precedence: "conditional", Bounds: defaultBounds}
	document, problems := appconfig.Read(appconfig.Options{
		Files: files, Environ: environ, Read: appconfig.Keys{"permission": {"enabled": nil, "rbac": nil}},
	})
	r := settingsReader{files: files, nodes: map[string]*yaml.Node{}}
	for _, p := range problems {
		r.refuse(p.Key, "%s: %s", p.Key, p.Text)
	}
	permission, _ := document.Values["permission"].(map[string]any)
	if on, ok := truth(permission["enabled"]); !on || !ok {
		r.find("permission.enabled", Warning, "permission-disabled",
			"permission.enabled is not true: there the plugin allows everything to everybody, and stagedoor decides by "+
				"the policy")
	}
	if permission["enabled"] != nil {
		s.Rows = append(s.Rows, Row{At: r.place("permission.enabled"), What: "permission.enabled",
			Became: "stagedoor decides by the policy always"})
	}
	rbac, _ := permission["rbac"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(rbac)) {
		r.read(&s, key, rbac[key])
	}
	return s, r.found, r.refused
}

type settingsReader struct {
	files          []string
	nodes          map[string]*yaml.Node
	found, refused []Finding
}

// section is where the plugin's keys are.
const section = "permission.rbac"

func (r *settingsReader) read(s *Settings, key string, v any) {
	path := section + "." + key
	became := func(path, text string) {
		s.Rows = append(s.Rows, Row{At: r.place(path), What: path, Became: text})
	}
	none := func(why string) { became(path, "no equivalent: "+why) }
	if v == nil {
		became(path, "nothing: it is null, as if it were not there")
		return
	}
	switch key {
	case "policies-csv-file", "conditionalPoliciesFile":
		became(path, "the file is a source of this migration where it is given; stagedoor reads the bundle")
	case "policyFileReload":
		became(path, "stagedoor watches the bundle always")
	case "pluginsWithPermission":
		none("stagedoor needs no list of plugins to decide")
	case "validation":
		r.bounds(&s.Bounds, path, v)
		became(path, "bounds of the file of conditional policies, which this migration keeps to")
	case "policyDecisionPrecedence":
		text, _ := v.(string)
		if text == "basic" {
			s.Precedence = "basic"
		} else if text != "conditional" {
			r.find(path, Wrong, "precedence", "%s is neither basic nor conditional; the plugin takes it for conditional", path)
		}
		became(path, "data.rbac.precedence")
	case "maxDepth":
		depth, ok := wholeNumber(v)
		if !ok || depth < 0 {
			r.refuse(path, "%s is no whole number from 0 on; the plugin does not start with it", path)
			return
		}
		s.MaxDepth = &depth
		became(path, "data.rbac.maxDepth")
	case "useOwnershipEntityRefs":
		on, ok := truth(v)
		if !ok {
			r.refuse(path, "%s is neither true nor false", path)
			return
		}
		s.UseOwnershipEntities = on
		became(path, "data.rbac.useOwnershipEntityRefs")
	case "admin":
		admin, ok := v.(map[string]any)
		if !ok {
			r.refuse(path, "%s is no object", path)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(admin)) {
			switch at := path + "." + key; key {
			case "users":
				s.Admins = r.names(at, admin[key])
				became(at, "members of role:default/rbac_admin in data.rbac_members.bindings, and the lines of that role")
			case "superUsers":
				s.Superusers = r.names(at, admin[key])
				became(at, "data.rbac.superusers")
			default:
				r.unknown(at)
				became(at, "unknown to the plugin, and left out")
			}
		}
	case "defaultPermissions":
		r.defaultPermissions(s, path, v)
		became(path, "a role of everybody: * in data.rbac_members.bindings, and its lines")
	default:
		r.unknown(path)
		none("unknown to the plugin, and left out")
	}
}

// bounds reads those that are not as by default. The plugin does not start with one that is
// no whole number from 1 on.
func (r *settingsReader) bounds(b *Bounds, path string, v any) {
	of, _ := v.(map[string]any)
	for _, bound := range []struct {
		section, key string
		to           *int
	}{
		{"conditionalPolicies", "maxConditionDepth", &b.Depth},
		{"conditionalPolicies", "maxConditionNodeCount", &b.Nodes},
		{"conditionalPolicies", "maxCriteriaItems", &b.Items},
		{"conditionalPoliciesFile", "maxBytes", &b.Bytes},
		{"conditionalPoliciesFile", "maxDocuments", &b.Documents},
	} {
		section, _ := of[bound.section].(map[string]any)
		value := section[bound.key]
		if value == nil {
			continue
		}
		n, ok := wholeNumber(value)
		if !ok || n < 1 {
			at := path + "." + bound.section + "." + bound.key
			r.refuse(at, "%s is no whole number from 1 on; the plugin does not start with it", at)
		}
		*bound.to = n
	}
}

func (r *settingsReader) defaultPermissions(s *Settings, path string, v any) {
	defaults, _ := v.(map[string]any)
	s.DefaultRole, _ = defaults["defaultRole"].(string)
	if err := CheckRef(s.DefaultRole, "role"); err != nil {
		r.refuse(path+".defaultRole", "%s.defaultRole: %v; the plugin does not start with it", path, err)
	}
	permissions, _ := defaults["basicPermissions"].([]any)
	if len(permissions) == 0 {
		r.refuse(path, "%s.basicPermissions is missing or empty; the plugin does not start with it", path)
	}
	for i, one := range permissions {
		at := fmt.Sprintf("%s.basicPermissions[%d]", path, i)
		members, _ := one.(map[string]any)
		name, _ := members["permission"].(string)
		action, _ := members["action"].(string)
		l := Line{At: r.place(at), Subject: s.DefaultRole, Object: name, Action: cmp.Or(action, "use"), Effect: "allow"}
		if name == "" || strings.Contains(name, `"`) || !slices.Contains(Actions(), l.Action) {
			r.refuse(at, "%s is no {permission, action}; the plugin does not start with it", at)
		}
		s.Defaults = append(s.Defaults, l)
	}
}

func (r *settingsReader) names(path string, v any) []Named {
	all, ok := v.([]any)
	if !ok && v != nil {
		r.refuse(path, "%s is no list", path)
	}
	var names []Named
	for i, one := range all {
		at := fmt.Sprintf("%s[%d].name", path, i)
		members, _ := one.(map[string]any)
		name, _ := members["name"].(string)
		if name == "" {
			r.refuse(at, "%s is missing or no text; the plugin does not start with it", at)
			continue
		}
		names = append(names, Named{At: r.place(at), Name: name})
	}
	return names
}

func (r *settingsReader) unknown(path string) {
	r.find(path, Warning, "unknown-key", "%s is no key of the plugin", path)
}

func (r *settingsReader) find(path string, severity Severity, code, format string, args ...any) {
	r.found = append(r.found, Finding{r.place(path), severity, code, fmt.Sprintf(format, args...)})
}

func (r *settingsReader) refuse(path, format string, args ...any) {
	r.refused = append(r.refused, refusal(r.place(path), format, args...))
}

var steps = regexp.MustCompile(`[^.\[\]]+`)

// place is where a key stands in the last file that has it, or as much of its path.
func (r *settingsReader) place(path string) written.Place {
	best, longest := written.Place{File: strings.Join(r.files[:min(1, len(r.files))], "")}, 0
	for _, file := range r.files {
		node := r.nodes[file]
		if node == nil {
			node = &yaml.Node{}
			if text, err := os.ReadFile(file); err == nil {
				_ = yaml.Unmarshal(text, node) // what is wrong with it, appconfig says
			}
			r.nodes[file] = node
		}
		length := 0
		if node.Kind == yaml.DocumentNode {
			node = node.Content[0]
		}
		for _, step := range steps.FindAllString(path, -1) {
			next, line := child(node, step)
			if next == nil {
				break
			}
			node = next
			if length++; length >= longest {
				best, longest = written.Place{File: file, Line: line}, length
			}
		}
	}
	return best
}

func child(node *yaml.Node, step string) (*yaml.Node, int) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1], node.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(node.Content) {
			return node.Content[i], node.Content[i].Line
		}
	}
	return nil, 0
}

func wholeNumber(v any) (int, bool) {
	n, err := strconv.Atoi(trim(fmt.Sprint(v)))
	return n, err == nil
}

// truth is a value that Backstage takes for true or false, of a variable for instance.
func truth(v any) (on, ok bool) {
	switch strings.ToLower(trim(fmt.Sprint(v))) {
	case "y", "yes", "true", "1", "on":
		return true, true
	case "n", "no", "false", "0", "off":
		return false, true
	}
	return false, false
}
