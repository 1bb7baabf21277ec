package offline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/spelling"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// A Question is what a policy is asked: may the caller do this, and with which
// resource where that is known.
type Question struct {
	Caller     decision.Caller
	Permission wire.Permission
	// Resource is the resource as encoding/json decodes it; nil where it is not known.
	Resource any
}

// Words is the caller as words know it.
func (q Question) Words() words.Caller {
	return words.Caller{User: q.Caller.User, Claims: q.Caller.Claims}
}

// Input is what Rego sees as input, with the resource where it is known.
func (q Question) Input() map[string]any {
	attributes := map[string]any{}
	if q.Permission.Action != "" {
		attributes["action"] = q.Permission.Action
	}
	permission := map[string]any{"name": q.Permission.Name, "type": "basic", "attributes": attributes}
	if q.Permission.Resource {
		permission["type"], permission["resourceType"] = "resource", q.Permission.ResourceType
	}
	input := map[string]any{"permission": permission}
	if !q.Caller.Anonymous {
		claims := make([]any, len(q.Caller.Claims))
		for i, claim := range q.Caller.Claims {
			claims[i] = claim
		}
		identity := map[string]any{"user": q.Caller.User, "claims": claims}
		if q.Caller.Actor != "" {
			identity["actor"] = q.Caller.Actor
		}
		input["identity"] = identity
	}
	if q.Resource != nil {
		input["resource"] = q.Resource
	}
	return input
}

// Permission is a permission of an inventory as a request asks for it.
func Permission(p inventory.Permission) wire.Permission {
	return wire.Permission{
		Name: p.Name, Action: p.Attributes.Action, Resource: p.Type == "resource", ResourceType: p.ResourceType,
	}
}

// FindPermission returns the permission of a name in the inventory. The error names
// the nearest one.
func FindPermission(i *inventory.Inventory, name string) (wire.Permission, error) {
	if p, ok := i.Permission(name); ok {
		return Permission(p), nil
	}
	near := ""
	if meant := spelling.Meant(name, permissionNames(i)); meant != "" {
		near = fmt.Sprintf(" (%s?)", meant)
	}
	return wire.Permission{}, fmt.Errorf("no permission is called %s%s; "+
		"what the inventory %s does not have, --inventory can bring", name, near, i.Source)
}

func permissionNames(i *inventory.Inventory) []string {
	names := make([]string, len(i.Permissions))
	for at, p := range i.Permissions {
		names[at] = p.Name
	}
	return names
}

// ReadQuestions reads what is to be asked from JSON: an authorize request, which
// says nothing of the caller; a decision-log event or a request of OPA's data API,
// which have it as input; or such an input itself. A permission of which only the
// name is given is completed by the inventory. A caller that is not nil is the caller
// of all questions, whatever the text says.
//
// The error says what is wrong and where.
func ReadQuestions(text []byte, caller *decision.Caller, known *inventory.Inventory) ([]Question, error) {
	var document map[string]json.RawMessage
	if err := decode(text, &document); err != nil {
		return nil, fmt.Errorf("want an authorize request, a decision-log event or an input, in JSON: %w", err)
	}
	if _, ok := document["items"]; ok {
		request, err := wire.DecodeRequest(text, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		if caller == nil {
			return nil, errors.New("a request does not say who asks: give the caller by --user and --claims, or --signed-out")
		}
		questions := make([]Question, len(request.Items))
		for i, item := range request.Items {
			questions[i] = Question{Caller: *caller, Permission: item.Permission}
		}
		return questions, nil
	}
	input := text
	if of, ok := document["input"]; ok {
		input = of
	}
	q, err := readInput(input, caller, known)
	return []Question{q}, err
}

type inputDocument struct {
	Permission *struct {
		Name       string `json:"name"`
		Type       string `json:"type"`
		Attributes *struct {
			Action string `json:"action"`
		} `json:"attributes"`
		ResourceType string `json:"resourceType"`
	} `json:"permission"`
	Identity *struct {
		User   string    `json:"user"`
		Claims *[]string `json:"claims"`
		Actor  string    `json:"actor"`
	} `json:"identity"`
	Resource any `json:"resource"`
}

func readInput(text []byte, caller *decision.Caller, known *inventory.Inventory) (Question, error) {
	var document inputDocument
	if err := decode(text, &document); err != nil {
		return Question{}, fmt.Errorf("input: %w", err)
	}
	p := document.Permission
	if p == nil || p.Name == "" {
		return Question{}, errors.New("input.permission.name is missing: " +
			"want items, as in a request, or an input with permission and identity")
	}
	q := Question{Caller: decision.Caller{Anonymous: true}, Resource: document.Resource}
	if p.Type == "" {
		var err error
		if q.Permission, err = FindPermission(known, p.Name); err != nil {
			return Question{}, err
		}
	} else {
		q.Permission = wire.Permission{Name: p.Name, Resource: p.Type == "resource", ResourceType: p.ResourceType}
		if p.Attributes != nil {
			q.Permission.Action = p.Attributes.Action
		}
	}
	switch i := document.Identity; {
	case caller != nil:
		q.Caller = *caller
	case i != nil:
		if i.Claims == nil {
			return Question{}, errors.New("input.identity.claims is missing: " +
				"the default mask of the decision log leaves it out; give the caller by --user and --claims")
		}
		q.Caller = decision.Caller{User: i.User, Claims: *i.Claims, Actor: i.Actor}
	}
	return q, nil
}

// ReadResource reads a resource from a file in YAML or JSON, which begins like a
// catalog entity's file.
func ReadResource(name string) (any, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	resource, err := ParseResource(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return resource, nil
}

// ParseResource reads a resource in YAML or JSON. The error says what is wrong.
func ParseResource(text []byte) (any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var value any
	err := decoder.Decode(&value)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("there is no resource: write it in YAML or JSON, as the plugin has it")
	}
	if err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("want one resource, not several documents")
	}
	if _, ok := value.(map[string]any); !ok {
		return nil, errors.New("a resource is an object")
	}
	return asJSON(value)
}

// asJSON brings what YAML decoded to what encoding/json decodes.
func asJSON(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var value any
	err = decode(text, &value)
	return value, err
}

func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}
