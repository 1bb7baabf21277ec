package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mutant is a place and what is broken there.
type mutant struct{ place, what string }

func (m mutant) String() string { return m.place + ": " + m.what }

// switches is added to each package that has mutants.
const switches = `package %s

import (
	"os"
	"strconv"
)

var mutantOn, _ = strconv.Atoi(os.Getenv("STAGEDOOR_MUTANT"))

func mutantIf[T ~bool](n int, is T) T { return is != T(mutantOn == n) }

func mutantAnd(n int, a bool, b func() bool) bool {
	if mutantOn == n {
		return a || b()
	}
	return a && b()
}

func mutantOr(n int, a bool, b func() bool) bool {
	if mutantOn == n {
		return a && b()
	}
	return a || b()
}

func mutantPick[T any](n int, is, other T) T {
	if mutantOn == n {
		return other
	}
	return is
}
`

// mutate writes the packages with all mutants in them, and returns the overlay.
func (r *run) mutate(packages ...string) (string, error) {
	replace := map[string]string{}
	for _, dir := range packages {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "plan_string.go" {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			broken, err := r.file(file, text)
			if err != nil {
				return "", err
			}
			if err := r.replace(replace, file, broken); err != nil {
				return "", err
			}
		}
		added := fmt.Appendf(nil, switches, filepath.Base(dir))
		if err := r.replace(replace, filepath.Join(dir, "mutant_switches.go"), added); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return r.at("overlay.json"), os.WriteFile(r.at("overlay.json"), text, 0o600)
}

func (r *run) replace(all map[string]string, file string, by []byte) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	all[path] = r.at(strings.ReplaceAll(file, "/", "_"))
	return os.WriteFile(all[path], by, 0o600)
}

// edit puts text before and after a part of a file.
type edit struct {
	from, to      int
	before, after string
}

// file is a file with all its mutants.
func (r *run) file(name string, text []byte) ([]byte, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	b := &breaker{run: r, fset: fset, text: text}
	for _, decl := range tree.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			ast.Inspect(f.Body, b.visit)
		}
	}
	return b.applied(), nil
}

type breaker struct {
	*run
	fset  *token.FileSet
	text  []byte
	edits []edit
}

func (b *breaker) source(n ast.Node) string {
	return string(b.text[b.fset.Position(n.Pos()).Offset:b.fset.Position(n.End()).Offset])
}

// add makes a mutant of a node.
func (b *breaker) add(n ast.Node, what, before, after string) {
	from, to := b.fset.Position(n.Pos()), b.fset.Position(n.End())
	b.mutants = append(b.mutants, mutant{fmt.Sprintf("%s:%d", from.Filename, from.Line),
		what + " " + oneLine(b.source(n))})
	before = strings.ReplaceAll(before, "#", strconv.Itoa(len(b.mutants)))
	b.edits = append(b.edits, edit{from.Offset, to.Offset, before, after})
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 90)]
}

// visit makes the mutants of a node.
func (b *breaker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		b.binary(n)
	case *ast.IfStmt:
		b.branch(n)
		return false
	case *ast.ReturnStmt:
		for _, result := range n.Results {
			if id, ok := result.(*ast.Ident); ok && (id.Name == "true" || id.Name == "false") {
				b.add(result, "turned", "mutantIf(#, ", ")")
			}
		}
	case *ast.CallExpr:
		b.call(n)
	case *ast.BranchStmt:
		if n.Tok == token.CONTINUE && n.Label == nil {
			b.add(n, "dropped", "if mutantIf(#, true) { ", " }")
		}
	case *ast.AssignStmt:
		if n.Tok == token.ASSIGN {
			b.add(n, "dropped", "if mutantIf(#, true) { ", " }")
		}
	case *ast.ExprStmt:
		if strings.HasPrefix(b.source(n), "panic(") {
			return false
		}
		b.add(n, "dropped", "if mutantIf(#, true) { ", " }")
	case *ast.ForStmt: // Otherwise it may have no end.
		ast.Inspect(n.Body, b.visit)
		return false
	case *ast.SwitchStmt:
		ast.Inspect(n.Body, b.visit)
		return false
	case *ast.TypeSwitchStmt:
		ast.Inspect(n.Body, b.visit)
		return false
	case *ast.GenDecl:
		return n.Tok != token.CONST
	}
	return true
}

// branch turns the condition of an if. Of its init only functions within are broken: it
// cannot be dropped alone.
func (b *breaker) branch(n *ast.IfStmt) {
	if n.Init != nil {
		ast.Inspect(n.Init, func(n ast.Node) bool {
			f, is := n.(*ast.FuncLit)
			if is {
				ast.Inspect(f.Body, b.visit)
			}
			return !is
		})
	}
	b.condition(n.Cond)
	ast.Inspect(n.Cond, b.visit)
	ast.Inspect(n.Body, b.visit)
	if n.Else != nil {
		ast.Inspect(n.Else, b.visit)
	}
}

// call loses a negation, or makes an or of an and.
func (b *breaker) call(n *ast.CallExpr) {
	s, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || !simple(s.X) {
		return
	}
	switch other := map[string]string{"All": "Any", "Any": "All"}[s.Sel.Name]; {
	case (s.Sel.Name == "Not" || s.Sel.Name == "not") && len(n.Args) == 0:
		b.add(n, "negation lost", "mutantPick(#, ", ", "+b.source(s.X)+")")
	case other != "" && strings.HasSuffix(b.source(s.X), "Space"):
		b.add(s, "and for or", "mutantPick(#, ", ", "+b.source(s.X)+"."+other+")")
	}
}

// binary turns a comparison, and makes an or of an and.
func (b *breaker) binary(n *ast.BinaryExpr) {
	switch n.Op {
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		b.add(n, "turned", "mutantIf(#, ", ")")
	case token.LAND, token.LOR:
		name := map[token.Token]string{token.LAND: "mutantAnd", token.LOR: "mutantOr"}[n.Op]
		b.add(n, "and for or", name+"(#, ", " })")
		// The operator becomes the beginning of a function.
		from, to := b.fset.Position(n.OpPos).Offset, b.fset.Position(n.Y.Pos()).Offset
		b.edits = append(b.edits, edit{from, to, "", ""})
	}
}

// condition turns a condition that is no binary expression.
func (b *breaker) condition(cond ast.Expr) {
	if _, binary := cond.(*ast.BinaryExpr); !binary {
		b.add(cond, "turned", "mutantIf(#, ", ")")
	}
}

// simple is whether an expression can be evaluated twice.
func simple(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return true
	case *ast.SelectorExpr:
		return simple(e.X)
	case *ast.IndexExpr:
		return simple(e.X) && simple(e.Index)
	}
	return false
}

// applied is the text with the edits, of which inner ones stay within outer ones.
func (b *breaker) applied() []byte {
	type insertion struct {
		at, order int
		text      string
		skip      int
	}
	var all []insertion
	for i, e := range b.edits {
		if e.before == "" {
			all = append(all, insertion{e.from, 0, ", func() bool { return ", e.to - e.from})
			continue
		}
		// At one place ends come before beginnings; outer nodes begin first and end last.
		all = append(all, insertion{e.from, 1 + i, e.before, 0}, insertion{e.to, -1 - i, e.after, 0})
	}
	slices.SortStableFunc(all, func(x, y insertion) int {
		if x.at != y.at {
			return x.at - y.at
		}
		return x.order - y.order
	})
	var out bytes.Buffer
	last := 0
	for _, in := range all {
		out.Write(b.text[last:in.at])
		out.WriteString(in.text)
		last = in.at + in.skip
	}
	out.Write(b.text[last:])
	return out.Bytes()
}
