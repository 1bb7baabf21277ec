// Package audience finds the callers that a review asks policies for: the people of an
// inventory, folded by what the policies read of a caller, or else the classes of
// package callers.
package audience

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/report"
)

// Who are the callers that policies are asked for.
type Who struct {
	List []Class
	// Of says which callers these are, for people who read the report.
	Of string
	// All is whether there can be no others that the policies treat in another way.
	All bool
	// Why says why there may be, or what keeps people from being folded.
	Why string
}

// A Class is callers whom the policies treat alike.
type Class struct {
	// Name says who they are.
	Name string
	// Example is one of them, for whom the policies are asked.
	Example decision.Caller
	// People is how many people of the inventory are in the class.
	People int
}

// Of are those of an inventory, folded by what the policies read of a caller, or
// where it has no people, the classes that are found in source, data and tests. Where it
// is asked about a resource, people are told apart whom the resource names; it is nil
// otherwise.
//
// The error is that of reading a policy's data.
func Of(ctx context.Context, inv *inventory.Inventory, resource any, policies ...*offline.Policy) (*Who, error) {
	foldings := []callers.Folding{{Data: resource}}
	modules, tests := make(map[string]*ast.Module), make(map[string]*ast.Module)
	data := map[string]any{"of the resource": resource} // apart, since references are alike by where they occur
	for i, p := range policies {
		of, err := DataOf(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		foldings = append(foldings, callers.Folding{Modules: p.Modules(), Data: of})
		data[strconv.Itoa(i)] = of
		for name, m := range p.Modules() {
			modules[fmt.Sprint(i, name)] = m
		}
		for name, m := range p.Tests() {
			tests[fmt.Sprint(i, name)] = m
		}
	}
	if len(inv.People) > 0 {
		return people(inv, callers.NewFolder(foldings...)), nil
	}
	found := callers.Of(callers.Sources{Modules: modules, Tests: tests, Data: data})
	who := &Who{All: found.All, Why: found.Why, Of: report.Count(len(found.List), "class", "classes") +
		" that source, data and tests tell apart"}
	switch {
	case who.All:
		who.Of += "; there are no others"
	case who.Why != "":
		who.Of += "; there may be others, since " + who.Why
	default:
		who.Of += "; there may be others"
	}
	for _, c := range found.List {
		who.List = append(who.List, Class{c.Name, c.Example, c.People})
	}
	return who, nil
}

// people are those of an inventory, beside whoever has no account in it.
func people(inv *inventory.Inventory, folder *callers.Folder) *Who {
	who := &Who{Why: folder.Why()}
	at := make(map[string]int)
	add := func(name string, c decision.Caller, n int) {
		key := folder.Key(c)
		i, ok := at[key]
		if !ok {
			i = len(who.List)
			at[key] = i
			who.List = append(who.List, Class{Name: name, Example: c})
		}
		who.List[i].People += n
	}
	for _, user := range slices.Sorted(maps.Keys(inv.People)) {
		add(user, decision.Caller{User: user, Claims: inv.People[user].Claims}, 1)
	}
	add("anybody else who is signed in", decision.Caller{User: callers.Somebody, Claims: []string{callers.Somebody}}, 0)
	add("a caller without credentials", decision.Caller{Anonymous: true}, 0)
	who.Of = fmt.Sprintf("all %s people of %s, in %s that are treated alike", report.Thousands(len(inv.People)), inv.Source,
		report.Count(len(who.List), "class", "classes"))
	if who.Why != "" {
		who.Of = fmt.Sprintf("all %s people of %s, each asked for, since policies could tell any two apart by %s",
			report.Thousands(len(inv.People)), inv.Source, who.Why)
	}
	return who
}

// DataOf is a policy's data as encoding/json decodes it.
func DataOf(ctx context.Context, p *offline.Policy) (any, error) {
	data, err := storage.ReadOne(ctx, p.Data(), storage.Path{})
	if err != nil {
		return nil, err
	}
	if value, ok := data.(ast.Value); ok {
		return ast.JSON(value)
	}
	return data, nil
}

// Each does something for every class, on all processors.
func (w *Who) Each(ctx context.Context, progress func(done, of int), do func(context.Context, int) error) error {
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range w.List {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := do(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			done++
			if progress != nil {
				progress(done, len(w.List))
			}
			return err
		})
	}
	return group.Wait()
}
