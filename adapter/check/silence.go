package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/datafiles"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// silence leaves out what comments silence. A comment without a reason, or one that
// silences nothing, is a finding itself.
func silence(found []findings.Finding, sources *offline.Sources, data *datafiles.Files) ([]findings.Finding, int) {
	type comment struct {
		at     findings.Position
		codes  string
		reason string
		used   bool
	}
	var comments []*comment
	for _, of := range []map[string]*ast.Module{sources.Modules, sources.Tests} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			for _, c := range of[name].Comments {
				text, ok := strings.CutPrefix(strings.TrimSpace(string(c.Text)), "stagedoor:ignore")
				if !ok {
					continue
				}
				code, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
				comments = append(comments, &comment{at: findings.At(c.Location), codes: code, reason: strings.TrimSpace(reason)})
			}
		}
	}
	for _, file := range data.Files {
		for _, row := range slices.Sorted(maps.Keys(file.Comments)) {
			if text, ok := strings.CutPrefix(file.Comments[row], "stagedoor:ignore"); ok {
				code, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
				comments = append(comments, &comment{at: findings.Position{File: file.Name, Row: row, Col: 1}, codes: code,
					reason: strings.TrimSpace(reason)})
			}
		}
	}
	l := &findings.List{}
	silenced := 0
	for _, f := range found {
		quiet := false
		for _, c := range comments {
			if c.reason != "" && f.File == c.at.File && (f.Line == c.at.Row || f.Line == c.at.Row+1) &&
				slices.Contains(strings.Split(c.codes, ","), f.Code) {
				c.used, quiet = true, true
			}
		}
		if quiet {
			silenced++
			continue
		}
		l.Findings = append(l.Findings, f)
	}
	for _, c := range comments {
		switch {
		case c.codes == "" || c.reason == "":
			l.Add(c.at, findings.Error, "ignore", "say what is ignored and why: # stagedoor:ignore CODE REASON")
		case !c.used:
			l.Add(c.at, findings.Warning, "ignore", "there is nothing to ignore here of the code %s; delete the comment",
				c.codes)
		}
	}
	l.Sort()
	return l.Findings, silenced
}
