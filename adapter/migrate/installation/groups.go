package installation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// readGroups reads the parents of groups from an export of the catalog: entities as YAML
// documents, as a JSON list, or as an answer of the catalog with items. The parents are
// the targets of relations of type childOf; an export without relations has spec.parent
// and the spec.children of other groups. The rows say what became of each entity.
func readGroups(file string, text []byte) (map[string][]string, []Row, []Finding) {
	documents, refused := documentsOf(file, text)
	if len(refused) > 0 {
		return nil, nil, refused
	}
	var rows []Row
	parents := map[string]map[string]bool{}
	child := func(of, parent string) {
		if parents[of] == nil {
			parents[of] = map[string]bool{}
		}
		if parent != "" {
			parents[of][parent] = true
		}
	}
	entities, wrong := entitiesIn(documents)
	refused = append(refused, wrong...)
	for _, entity := range entities {
		if _, ok := entity.Of.(*written.Object); !ok {
			refused = append(refused, refusal(entity.At, "no entity: want an object with kind and metadata"))
			continue
		}
		if kind := entity.Text("kind"); !strings.EqualFold(kind, "group") {
			rows = append(rows, Row{At: entity.At, What: "entity of kind " + kind, Became: "nothing: only groups have parents"})
			continue
		}
		metadata, _ := entity.Member("metadata")
		if metadata.Text("name") == "" {
			refused = append(refused, refusal(entity.At, "a group without metadata.name"))
			continue
		}
		namespace := cmp.Or(metadata.Text("namespace"), "default")
		ref := Lower("group:" + namespace + "/" + metadata.Text("name"))
		child(ref, "")
		rows = append(rows, Row{At: entity.At, What: ref, Became: "data.rbac_members.groups, where it has parents"})
		if relations, ok := entity.Member("relations"); ok {
			all, _ := relations.Of.(written.List)
			for _, relation := range all {
				if relation.Text("type") != "childOf" {
					continue
				}
				parent := Lower(relation.Text("targetRef"))
				if parent == "" {
					refused = append(refused, refusal(relation.At, "a relation childOf without targetRef"))
				}
				child(ref, parent)
			}
			continue
		}
		spec, _ := entity.Member("spec")
		if parent, _ := spec.Member("parent"); parent.Of != nil {
			name, ok := parent.Of.(string)
			if !ok {
				refused = append(refused, refusal(parent.At, "spec.parent of %s is no text", ref))
			} else if name != "" {
				child(ref, groupRef(name, namespace))
			}
		}
		children, _ := spec.Member("children")
		all, _ := children.Of.(written.List)
		for _, one := range all {
			name, ok := one.Of.(string)
			if !ok {
				refused = append(refused, refusal(one.At, "a child of %s is no text", ref))
				continue
			}
			child(groupRef(name, namespace), ref)
		}
	}
	if len(refused) > 0 {
		return nil, nil, refused
	}
	if len(documents) > 0 && len(parents) == 0 {
		return nil, nil, []Finding{refusal(written.Place{File: file}, "no entity of kind Group")}
	}
	sorted := map[string][]string{}
	for group, of := range parents {
		if len(of) > 0 {
			sorted[group] = slices.Sorted(maps.Keys(of))
		}
	}
	return sorted, rows, nil
}

// entitiesIn are the entities of the documents, one each, or as lists or items. Of an
// answer of the catalog that is one page of several, some are missing.
func entitiesIn(documents []written.Value) (all []written.Value, refused []Finding) {
	for _, document := range documents {
		of := document
		if items, ok := document.Member("items"); ok {
			of = items
			many, _ := items.Of.(written.List)
			page, _ := document.Member("pageInfo")
			total, _ := document.Member("totalItems")
			switch n, told := total.Of.(float64); {
			case page.Text("nextCursor") != "" || page.Text("prevCursor") != "":
				refused = append(refused, refusal(document.At, "one page of several; give an export of all groups"))
			case told && n != float64(len(many)):
				refused = append(refused, refusal(document.At, "%d entities of %v; give an export of all groups", len(many), n))
			}
		}
		if many, ok := of.Of.(written.List); ok {
			all = append(all, many...)
		} else {
			all = append(all, of)
		}
	}
	return all, refused
}

// groupRef is the whole reference of a group that an entity of a namespace names.
func groupRef(name, namespace string) string {
	kind, rest, ok := strings.Cut(name, ":")
	if !ok {
		kind, rest = "group", name
	}
	if !strings.Contains(rest, "/") {
		rest = namespace + "/" + rest
	}
	return Lower(fmt.Sprintf("%s:%s", kind, rest))
}
