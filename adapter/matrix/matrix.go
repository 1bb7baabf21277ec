// Package matrix shows who may do what by a policy: callers by permissions, or of one
// permission, who has it.
package matrix

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Options are what a matrix is made of.
type Options struct {
	// Inventory has the permissions.
	Inventory *inventory.Inventory
	// Who are the callers that are asked for.
	Who *audience.Who
	// Vocabulary says conditions in words.
	Vocabulary words.Vocabulary
	// Progress is told how much of the work is done; nil for nobody.
	Progress func(done, of int)
}

// A Matrix is who may do what by one policy: callers by permissions.
type Matrix struct {
	// Columns are classes of callers who may do the same, in the order of the classes.
	Columns []Column
	// Plugins group the rows by the plugin that publishes the permissions.
	Plugins []Plugin
	// Answers are what cells say, each once: cells have their numbers.
	Answers []Answer
	// criteria are the conditions of the first caller of each column, by permission.
	criteria [][]criteria.Criteria
	// About says what was asked.
	About About
}

// About is what a matrix is about.
type About struct {
	Policy    string `json:"policy"`
	Inventory string `json:"inventory"`
	Callers   string `json:"callers"`
	// Why says why there may be other callers.
	Why string `json:"why,omitempty"`
}

// A Column is callers who may do the same.
type Column struct{ Classes []audience.Class }

// A Plugin is the permissions of a plugin.
type Plugin struct {
	ID   string
	Rows []Row
}

// A Row is permissions that the same callers have.
type Row struct {
	Permissions []Named
	// Cells are numbers of answers, by column.
	Cells []int
}

// Named is a permission, and whether a rule or the data names it.
type Named struct {
	Name  string
	Named bool
	at    int // of the inventory's permissions
}

// An Answer is what a cell says. Its condition is that of an example; the example's
// references stand in the words as "the caller".
type Answer struct {
	// Result is ALLOW, DENY, CONDITIONAL or ERROR.
	Result   string
	Criteria criteria.Criteria
	InWords  string
}

// Of asks a policy for every permission of the inventory and every class of
// callers. Named tells which permissions the policy names. The error is the context's or
// that of deciding.
func Of(
	ctx context.Context, p *offline.Policy, named func(permission string) bool, o Options,
) (*Matrix, error) {
	permissions := make([]wire.Permission, len(o.Inventory.Permissions))
	for i, published := range o.Inventory.Permissions {
		permissions[i] = offline.Permission(published)
	}
	said := make([][]Answer, len(o.Who.List))
	if err := o.Who.Each(ctx, o.Progress, func(ctx context.Context, i int) error {
		class := o.Who.List[i]
		outcomes, err := p.Outcomes(ctx, class.Example, permissions)
		if err != nil {
			return err
		}
		said[i] = make([]Answer, len(outcomes))
		for j, outcome := range outcomes {
			said[i][j] = o.answer(comparison.Served(permissions[j], outcome), class.Example)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	m := &Matrix{About: About{Inventory: o.Inventory.Source, Callers: o.Who.Of, Why: o.Who.Why}}
	columns := m.columns(o.Who.List, said)
	m.rows(o.Inventory.Permissions, columns, named)
	return m, nil
}

func (o Options) answer(of *decision.Outcome, c decision.Caller) Answer {
	if of.Err != nil {
		return Answer{Result: "ERROR", InWords: report.OneLine(of.Err.Error())}
	}
	a := Answer{Result: of.Decision.Result.String(), Criteria: comparison.Allowed(of)}
	if of.Decision.Result == wire.Conditional {
		a.InWords = o.Vocabulary.Condition(a.Criteria, words.Caller{User: c.User, Claims: c.Claims})
	}
	return a
}

// columns numbers the answers and folds classes with equal ones. It returns the numbers
// by column and permission.
func (m *Matrix) columns(classes []audience.Class, said [][]Answer) [][]int {
	numbers := make(map[[2]string]int)
	at := make(map[string]int)
	var columns [][]int
	for i, class := range classes {
		cells := make([]int, len(said[i]))
		var key strings.Builder
		for j, a := range said[i] {
			says := [2]string{a.Result, a.InWords}
			n, ok := numbers[says]
			if !ok {
				n = len(m.Answers)
				numbers[says] = n
				m.Answers = append(m.Answers, a)
			}
			cells[j] = n
			fmt.Fprintf(&key, "%d,", n)
		}
		c, ok := at[key.String()]
		if !ok {
			c = len(columns)
			at[key.String()] = c
			columns = append(columns, cells)
			m.Columns = append(m.Columns, Column{})
			conditions := make([]criteria.Criteria, len(said[i]))
			for j, a := range said[i] {
				conditions[j] = a.Criteria
			}
			m.criteria = append(m.criteria, conditions)
		}
		m.Columns[c].Classes = append(m.Columns[c].Classes, class)
	}
	return columns
}

// rows folds permissions of a plugin with equal cells.
func (m *Matrix) rows(permissions []inventory.Permission, columns [][]int, named func(string) bool) {
	plugins := make(map[string]int)
	rows := make(map[string]int)
	for i, p := range permissions {
		at, ok := plugins[p.PluginID]
		if !ok {
			at = len(m.Plugins)
			plugins[p.PluginID] = at
			m.Plugins = append(m.Plugins, Plugin{ID: p.PluginID})
		}
		plugin := &m.Plugins[at]
		cells := make([]int, len(columns))
		for c := range columns {
			cells[c] = columns[c][i]
		}
		key := fmt.Sprint(p.PluginID, cells)
		row, ok := rows[key]
		if !ok {
			row = len(plugin.Rows)
			rows[key] = row
			plugin.Rows = append(plugin.Rows, Row{Cells: cells})
		}
		plugin.Rows[row].Permissions = append(plugin.Rows[row].Permissions, Named{p.Name, named(p.Name), i})
	}
	slices.SortStableFunc(m.Plugins, func(a, b Plugin) int { return cmp.Compare(a.ID, b.ID) })
}

// NamesOf finds out which permissions a policy names: those whose names are texts of its
// source or its data. The error is that of reading the data.
func NamesOf(ctx context.Context, p *offline.Policy) (func(permission string) bool, error) {
	texts := make(map[string]bool)
	for _, module := range p.Modules() {
		ast.WalkTerms(module, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				texts[string(s)] = true
			}
			return false
		})
	}
	data, err := p.Document(ctx)
	if err != nil {
		return nil, err
	}
	noteTexts(data, texts)
	return func(permission string) bool { return texts[permission] }, nil
}

func noteTexts(value any, texts map[string]bool) {
	switch value := value.(type) {
	case string:
		texts[value] = true
	case []any:
		for _, element := range value {
			noteTexts(element, texts)
		}
	case map[string]any:
		for name, member := range value {
			texts[name] = true
			noteTexts(member, texts)
		}
	}
}

// A Cell is what some callers may do with a permission. Its criteria are those of the first of
// the callers: others have their own references in the same places.
type Cell struct {
	Permission string              `json:"permission"`
	Plugin     string              `json:"plugin"`
	Callers    []audience.Affected `json:"callers"`
	Result     string              `json:"result"`
	Criteria   *criteria.Criteria  `json:"criteria,omitempty"`
	InWords    string              `json:"inWords,omitempty"`
	Named      bool                `json:"named"`
}

// Cells are all cells, folded over callers, by permission.
func (m *Matrix) Cells() []Cell {
	var cells []Cell
	for _, plugin := range m.Plugins {
		for _, row := range plugin.Rows {
			byAnswer := row.byAnswer(m)
			for _, p := range row.Permissions {
				for _, of := range byAnswer {
					a := m.Answers[of.answer]
					cell := Cell{Permission: p.Name, Plugin: plugin.ID, Callers: of.callers, Result: a.Result,
						InWords: a.InWords, Named: p.Named}
					if a.Result == wire.Conditional.String() {
						cell.Criteria = &m.criteria[of.column][p.at]
					}
					cells = append(cells, cell)
				}
			}
		}
	}
	slices.SortStableFunc(cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Permission, b.Permission))
	})
	return cells
}

// answerOf is an answer and who gets it.
type answerOf struct {
	answer  int
	column  int // the first one
	callers []audience.Affected
}

func (r Row) byAnswer(m *Matrix) []answerOf {
	at := make(map[int]int)
	var list []answerOf
	for c, answer := range r.Cells {
		i, ok := at[answer]
		if !ok {
			i = len(list)
			at[answer] = i
			list = append(list, answerOf{answer: answer, column: c})
		}
		for _, class := range m.Columns[c].Classes {
			list[i].callers = append(list[i].callers, class.Affected())
		}
	}
	return list
}

// name says who is in the column.
func (c Column) name() string {
	var of []audience.Affected
	for _, class := range c.Classes {
		of = append(of, class.Affected())
	}
	return audience.Names(of)
}
