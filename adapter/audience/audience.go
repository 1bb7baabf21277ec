// Package audience finds the callers that a review asks policies for: the people of an
// inventory, folded by what the policies read of a caller, or else the classes of
// package callers.
package audience

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fold"
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
	// Members are these people's references, in order.
	Members []string
}

// Sources are what callers are found in.
type Sources struct {
	// Inventory has the people, who are folded by what the policies read of a caller.
	Inventory *inventory.Inventory
	// Resource is one that is asked about; nil for none. People are told apart whom it
	// or a permission names.
	Resource any
	// Known are callers that somebody named, such as those of decision tables.
	Known []decision.Caller
	// Unread says which policy is asked, too, and cannot be read; empty for none. It may
	// tell apart callers whom the others treat alike.
	Unread string
}

// Of are the callers to ask policies for: all people, or where the inventory has none,
// the classes that are found in source, data and tests. Those whom somebody named are
// asked for, too.
//
// The error is the context's, or that of reading a policy.
func Of(ctx context.Context, from Sources, policies ...*offline.Policy) (*Who, error) {
	if len(from.Inventory.People) > 0 {
		if from.Unread != "" {
			return people(ctx, from, nil)
		}
		folder, err := fold.New(ctx, from.texts(), policies...)
		if err != nil {
			return nil, err
		}
		return people(ctx, from, folder)
	}
	modules, tests := make(map[string]*ast.Module), make(map[string]*ast.Module)
	data := map[string]any{"of the resource": from.Resource} // apart, since references are alike by where they occur
	var each []any
	for i, p := range policies {
		of, err := p.Document(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		data[strconv.Itoa(i)] = of
		each = append(each, of)
		for name, m := range p.Modules() {
			modules[fmt.Sprint(i, name)] = m
		}
		for name, m := range p.Tests() {
			tests[fmt.Sprint(i, name)] = m
		}
	}
	var apart string
	for _, p := range policies {
		apart = cmp.Or(apart, p.Apart())
	}
	found := callers.Of(callers.Sources{Modules: modules, Tests: tests, Data: data, Each: each,
		Known: from.Known, Apart: apart})
	who := &Who{All: found.All, Why: found.Why, Of: report.Count(len(found.List), "class", "classes") +
		" that source, data and tests tell apart"}
	if who.All && from.Unread != "" {
		who.All, who.Why = false, from.Unread
	}
	for _, p := range policies {
		absent, err := p.Absent()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		if who.All && len(absent) > 0 {
			who.All, who.Why = false, "no file of "+p.Path+" has "+absent[0]
		}
	}
	switch {
	case who.All:
		who.Of += "; there are no others"
	case who.Why != "":
		who.Of += "; there may be others, since " + who.Why
	default:
		who.Of += "; there may be others"
	}
	for _, c := range found.List {
		who.List = append(who.List, Class{Name: c.Name, Example: c.Example, People: c.People})
	}
	return who, nil
}

// texts are those of a question that a policy may compare a caller's with, beside its
// own: the resource's and the permissions'.
func (s Sources) texts() any {
	texts := []any{s.Resource}
	for _, p := range s.Inventory.Permissions {
		texts = append(texts, p.Name, p.Type, p.Attributes.Action, p.ResourceType)
	}
	return texts
}

// people are those of an inventory, beside whoever has no account in it. Without a folder
// each is asked for.
func people(ctx context.Context, from Sources, folder *fold.Folder) (*Who, error) {
	inv := from.Inventory
	var all []Class
	for _, user := range slices.Sorted(maps.Keys(inv.People)) {
		person := decision.Caller{User: user, Claims: inv.People[user].Claims}
		all = append(all, Class{Name: user, Example: person, People: 1, Members: []string{user}})
	}
	for _, c := range from.Known {
		all = append(all, Class{Name: callers.Name(c), Example: c})
	}
	all = append(all,
		Class{Name: "anybody else who is signed in", Example: decision.Caller{User: callers.Somebody,
			Claims: []string{callers.Somebody}}},
		Class{Name: "a caller without credentials", Example: decision.Caller{Anonymous: true}})
	who := &Who{List: all, Why: from.Unread}
	keys := make([]string, len(all))
	if err := who.Each(ctx, nil, func(ctx context.Context, i int) (err error) {
		if folder == nil {
			keys[i] = strconv.Itoa(i)
			return nil
		}
		keys[i], err = folder.Key(ctx, all[i].Example)
		return err
	}); err != nil {
		return nil, err
	}
	if folder != nil {
		who.Why = folder.Why()
	}
	who.List = nil
	at := make(map[string]int)
	for i, class := range all {
		first, ok := at[keys[i]]
		if !ok {
			at[keys[i]] = len(who.List)
			who.List = append(who.List, class)
			continue
		}
		who.List[first].People += class.People
		who.List[first].Members = append(who.List[first].Members, class.Members...)
	}
	who.Of = fmt.Sprintf("all %s people of %s, in %s that are treated alike", report.Thousands(len(inv.People)),
		inv.Source,
		report.Count(len(who.List), "class", "classes"))
	if who.Why != "" {
		who.Of = fmt.Sprintf("all %s people of %s, each asked for, since policies could tell any two apart: %s",
			report.Thousands(len(inv.People)), inv.Source, who.Why)
	}
	return who, nil
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
