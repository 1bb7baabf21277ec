package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// asked are the flags that say what is asked.
type asked struct {
	user, actor, permission, resource, inventory string
	claims                                       []string
	signedOut                                    bool
}

func (a *asked) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.user, "user", "", "the caller's entity `reference`, such as user:default/ann")
	f.StringSliceVar(&a.claims, "claims", nil,
		"the `references` through which the caller owns things; the caller's own where this is not given")
	f.StringVar(&a.actor, "actor", "", "the `plugin` that asks on the caller's behalf, such as plugin:catalog")
	f.BoolVar(&a.signedOut, "signed-out", false, "the caller is nobody")
	f.StringVar(&a.permission, "permission", "",
		"the `name` of the permission, or the permission as JSON; else standard input says what is asked")
	f.StringVar(&a.resource, "resource", "", "a `file` with the resource, in YAML or JSON")
	f.StringVar(&a.inventory, "inventory", "",
		"the `directory` that says which permissions there are; the stock ones where this is not given")
}

// fullRef is the form that Backstage wants of the sub of a token: kind:namespace/name.
var fullRef = regexp.MustCompile(`^[^:/\s]+:[^:/\s]+/[^:/\s]+$`)

// loadInventory reads an inventory; the stock one where no directory is named.
func loadInventory(dir string) (*inventory.Inventory, error) {
	if dir == "" {
		return inventory.Stock(), nil
	}
	return inventory.Load(dir)
}

// questions are what the flags and standard input ask.
func (a *asked) questions(stdin io.Reader, known *inventory.Inventory) ([]offline.Question, error) {
	caller, err := a.caller()
	if err != nil {
		return nil, err
	}
	var questions []offline.Question
	if a.permission == "" {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return nil, err
		}
		if len(strings.TrimSpace(string(text))) == 0 {
			return nil, errors.New("what is asked? give --permission, or a request or decision-log event on standard input")
		}
		var of *decision.Caller
		if a.user != "" || a.signedOut {
			of = &caller
		}
		if questions, err = offline.ReadQuestions(text, of, known); err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
	} else {
		if a.user == "" && !a.signedOut {
			return nil, errors.New("who asks? give --user, or --signed-out")
		}
		p, err := readPermission(a.permission, known)
		if err != nil {
			return nil, fmt.Errorf("--permission: %w", err)
		}
		questions = []offline.Question{{Caller: caller, Permission: p}}
	}
	if a.resource == "" {
		return questions, nil
	}
	resource, err := offline.ReadResource(a.resource)
	if err != nil {
		return nil, fmt.Errorf("--resource: %w", err)
	}
	for i := range questions {
		questions[i].Resource = resource
	}
	return questions, nil
}

func (a *asked) caller() (decision.Caller, error) {
	switch {
	case a.signedOut && (a.user != "" || len(a.claims) > 0 || a.actor != ""):
		return decision.Caller{}, errors.New("--signed-out is a caller without --user, --claims and --actor")
	case a.user == "" && len(a.claims) > 0:
		return decision.Caller{}, errors.New("--claims are those of a --user, which is missing")
	case a.user == "":
		return decision.Caller{Anonymous: true}, nil
	case !fullRef.MatchString(a.user):
		return decision.Caller{}, fmt.Errorf("--user: %q is no full entity reference, and nobody signs in as that; "+
			"write it as in user:default/ann", a.user)
	}
	claims := slices.Clone(a.claims)
	if len(claims) == 0 {
		claims = []string{a.user}
	}
	return decision.Caller{User: a.user, Claims: claims, Actor: a.actor}, nil
}

// readPermission is a permission by its name, or as a request has it.
func readPermission(text string, known *inventory.Inventory) (wire.Permission, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return offline.FindPermission(known, text)
	}
	asked := map[string]any{"id": "0", "permission": json.RawMessage(text)}
	item, err := json.Marshal(map[string]any{"items": []any{asked}})
	if err != nil {
		return wire.Permission{}, err
	}
	request, err := wire.DecodeRequest(item, 1)
	if err != nil {
		return wire.Permission{}, err
	}
	return request.Items[0].Permission, nil
}
