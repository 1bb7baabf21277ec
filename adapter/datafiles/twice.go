package datafiles

import (
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/findings"
)

// checkTwice looks for members that an object has twice: of JSON the last one counts,
// and YAML with them cannot be loaded.
func checkTwice(l *findings.List, file File) {
	var visit func(at *yaml.Node, steps []string)
	visit = func(at *yaml.Node, steps []string) {
		first := map[string]int{}
		for i, child := range at.Content {
			below := steps
			if at.Kind == yaml.MappingNode {
				if i%2 == 0 {
					if row, ok := first[child.Value]; ok {
						l.Add(findings.Position{File: file.Name, Row: child.Line, Col: child.Column}, findings.Error, "data",
							"%s stands at line %d already, and only one of the two counts; make one of them",
							PathText(append(slices.Clone(steps), child.Value)), row)
					}
					first[child.Value] = child.Line
					continue
				}
				below = append(slices.Clone(steps), at.Content[i-1].Value)
			}
			visit(child, below)
		}
	}
	visit(file.Root, file.Under)
}

// checkOthers looks for members that another file of the bundle has too, which OPA does
// not load.
func (d *Files) checkOthers(l *findings.List, file File) {
	for _, other := range d.Files {
		if path.Dir(other.Name) != path.Dir(file.Name) {
			continue
		}
		both(other.Root, file.Root, file.Under, func(at *yaml.Node, steps []string) {
			l.Add(findings.Position{File: file.Name, Row: at.Line, Col: at.Column}, findings.Error, "data",
				"%s is in %s too; leave it in one of the files", PathText(steps), other.Name)
		})
	}
}

// both visits the innermost members that two objects have.
func both(a, b *yaml.Node, steps []string, see func(at *yaml.Node, steps []string)) {
	for i := 0; i+1 < len(b.Content); i += 2 {
		for j := 0; j+1 < len(a.Content); j += 2 {
			if a.Content[j].Value != b.Content[i].Value {
				continue
			}
			below := append(slices.Clone(steps), b.Content[i].Value)
			if a.Content[j+1].Kind == yaml.MappingNode && b.Content[i+1].Kind == yaml.MappingNode {
				both(a.Content[j+1], b.Content[i+1], below, see)
				continue
			}
			see(b.Content[i], below)
		}
	}
}
