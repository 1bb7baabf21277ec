//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// scenario is what is asked for.
type scenario struct {
	name string
	// policy is the directory of the policy, in bench/.
	policy string
	items  []item
	// results is how many of each there must be in an answer.
	results map[string]int
	// calls is how often stagedoor may ask plugins to answer one request.
	calls int64
	// everyUser is whether it is measured with all the numbers of users.
	everyUser bool
}

type item struct {
	ID          string     `json:"id"`
	Permission  permission `json:"permission"`
	ResourceRef any        `json:"resourceRef,omitempty"`
}

type permission struct {
	Type         string            `json:"type"`
	Name         string            `json:"name"`
	Attributes   map[string]string `json:"attributes"`
	ResourceType string            `json:"resourceType,omitempty"`
}

// scenarios returns all of them.
func scenarios() []scenario {
	return []scenario{
		{name: "one", policy: "policy", items: items(1, basic), results: map[string]int{"ALLOW": 1}, everyUser: true},
		{
			name: "fifty", policy: "policy", items: items(50, func(n int) item { return []func(int) item{basic, owned}[n%2](n / 2) }),
			results: map[string]int{"ALLOW": 25, "CONDITIONAL": 25}, everyUser: true,
		},
		{
			name: "fifty-conditional", policy: "policy", items: items(50, labelled),
			results: map[string]int{"CONDITIONAL": 50},
		},
		{name: "refs", policy: "policy", items: items(50, oneRef), results: map[string]int{"ALLOW": 50}, calls: 2},
		{name: "array", policy: "policy", items: items(1, manyRefs), results: map[string]int{"ALLOW": 500}, calls: 1},
		{name: "one-clock", policy: "clock", items: items(1, basic), results: map[string]int{"ALLOW": 1}},
	}
}

// items makes n items with ids as Backstage's client makes them: version 4 UUIDs.
func items(n int, newItem func(n int) item) []item {
	all := []item{}
	for i := range n {
		one := newItem(i)
		one.ID = fmt.Sprintf("5f0c7f2e-3a57-4c1d-9d2b-%012x", i)
		all = append(all, one)
	}
	return all
}

// basic asks for one of 25 basic permissions.
func basic(n int) item {
	return item{Permission: permission{
		Type: "basic", Name: fmt.Sprintf("bench.task.create.%02d", n), Attributes: map[string]string{"action": "create"},
	}}
}

// owned asks for one of 25 permissions that the policy gives to owners.
func owned(n int) item {
	return resource(fmt.Sprintf("catalog.entity.update.%02d", n), "catalog-entity")
}

// labelled asks for one of 50 permissions that the policy answers with 20 leaves.
func labelled(n int) item {
	return resource(fmt.Sprintf("catalog.entity.deploy.%02d", n), "catalog-entity")
}

// oneRef asks for one resource, of two plugins in turn.
func oneRef(n int) item {
	one := resource("catalog.entity.update.00", "catalog-entity")
	if n%2 == 1 {
		one = resource("todo.item.update", "todo-item")
	}
	one.ResourceRef = fmt.Sprintf("component:default/service-%02d", n)
	return one
}

// manyRefs asks for 500 resources at once.
func manyRefs(int) item {
	one := owned(0)
	var refs []string
	for n := range 500 {
		refs = append(refs, fmt.Sprintf("component:default/service-%03d", n))
	}
	one.ResourceRef = refs
	return one
}

func resource(name, resourceType string) item {
	return item{Permission: permission{
		Type: "resource", Name: name, Attributes: map[string]string{"action": "update"}, ResourceType: resourceType,
	}}
}

// authorize is the request that permission backends get, the same for every user.
func (s scenario) authorize(int) any { return map[string]any{"items": s.items} }

// ask is the request that an OPA server gets for a user: the input of the one item
// as the wrapper module makes it, or those of all items for one query.
func (s scenario) ask(user int) any {
	identity := map[string]any{"user": userRef(user), "claims": claimsOf(userRef(user))}
	if len(s.items) == 1 {
		return map[string]any{"input": map[string]any{
			"permission": map[string]string{"name": s.items[0].Permission.Name}, "identity": identity,
		}}
	}
	var permissions []map[string]string
	for _, one := range s.items {
		permissions = append(permissions, map[string]string{"name": one.Permission.Name})
	}
	return map[string]any{"input": map[string]any{"permissions": permissions, "identity": identity}}
}

// path is where an OPA server is asked that.
func (s scenario) path() string {
	if len(s.items) == 1 {
		return "/v1/data/rbac_policy/decision"
	}
	return "/v1/data/bench/decisions"
}

// messages are the requests of the users in bytes.
func messages(users int, host, path string, bearer, gzip bool, body func(user int) any) ([]message, error) {
	all := make([]message, users)
	for n := range all {
		text, err := json.Marshal(body(n))
		if err != nil {
			return nil, err
		}
		head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
			path, host, len(text))
		if gzip {
			head = append(head, "Accept-Encoding: gzip, deflate\r\n"...)
		}
		if bearer {
			head = append(head, "Authorization: Bearer "...)
		}
		all[n] = message{head: head, tail: append([]byte("\r\n"), text...), bearer: bearer}
		if bearer {
			all[n].tail = append([]byte("\r\n"), all[n].tail...)
		}
	}
	return all, nil
}

// inspect holds an answer against what it must be: that of a permission backend,
// or of OPA, whose results lie under result.
func (s scenario) inspect(body []byte, want map[string]int) error {
	var answer struct {
		Items  []toldItem      `json:"items"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if len(answer.Result) > 0 {
		if json.Unmarshal(answer.Result, &answer.Items) != nil {
			answer.Items = make([]toldItem, 1)
			if err := json.Unmarshal(answer.Result, &answer.Items[0]); err != nil {
				return err
			}
		}
	}
	got := map[string]int{}
	for _, one := range answer.Items {
		switch result := one.Result.(type) {
		case string:
			got[result]++
		case []any:
			for _, r := range result {
				got[fmt.Sprint(r)]++
			}
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("scenario %s: want the results %v, got %v: %.300s", s.name, want, got, body)
	}
	return nil
}

type toldItem struct {
	Result any `json:"result"`
}

// chosen returns the scenarios that were asked for, and their policies in order.
func chosen(names list) ([]scenario, []string, error) {
	all := scenarios()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s scenario) bool { return s.name == name }) {
			return nil, nil, fmt.Errorf("there is no scenario %q", name)
		}
	}
	if len(names) > 0 {
		all = slices.DeleteFunc(all, func(s scenario) bool { return !slices.Contains(names, s.name) })
	}
	var policies []string
	for _, s := range all {
		if !slices.Contains(policies, s.policy) {
			policies = append(policies, s.policy)
		}
	}
	return all, policies, nil
}
