package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Result is what a decision comes to.
type Result uint8

const (
	// Deny is the zero Result, so that a decision that was forgotten denies.
	Deny Result = iota
	// Allow is an unconditional yes.
	Allow
	// Conditional is a yes for those resources that fulfil the conditions.
	Conditional
)

// String returns ALLOW, CONDITIONAL or DENY; whatever is neither of the first two
// denies.
func (r Result) String() string {
	switch r {
	case Allow:
		return "ALLOW"
	case Conditional:
		return "CONDITIONAL"
	default:
		return "DENY"
	}
}

// Decision is a policy's answer for one permission and caller, already checked
// and in canonical form. It is immutable and safe for concurrent use.
type Decision struct {
	Result Result
	// PluginID, ResourceType and Conditions belong to Conditional alone.
	PluginID     string
	ResourceType string
	Conditions   criteria.Criteria

	json string // what AppendJSON appends, where NewConditional made the decision
}

// Fits is nil where the decision can be the answer for the permission. Conditions are
// for a resource, and of the type that was asked about.
func (d Decision) Fits(p Permission) error {
	switch {
	case d.Result != Conditional:
		return nil
	case !p.Resource:
		return errors.New("conditions for a basic permission")
	case d.ResourceType != p.ResourceType:
		return fmt.Errorf("conditions on resource type %q for a permission on %q", d.ResourceType, p.ResourceType)
	}
	return nil
}

// NewConditional returns the decision that the plugin's resources of that type
// are allowed which fulfil the conditions. They stay as they are where Backstage's
// readers accept them; with an empty list in them they are normalised
// ([criteria.Criteria.Normalise]): where they always hold the decision is ALLOW,
// where they never do DENY.
//
// The decision keeps its JSON, so that answering it again and again costs a copy.
func NewConditional(pluginID, resourceType string, conditions criteria.Criteria) Decision {
	if conditions.Degenerate() {
		conditions = conditions.Normalise()
	}
	switch conditions.Op {
	case criteria.Never:
		return Decision{Result: Deny}
	case criteria.Always:
		return Decision{Result: Allow}
	}
	d := Decision{Result: Conditional, PluginID: pluginID, ResourceType: resourceType, Conditions: conditions}
	d.json = string(d.AppendJSON(nil))
	return d
}

const allowed, denied = `{"result":"ALLOW"}`, `{"result":"DENY"}`

// AppendJSON appends the decision to b as an object: result and, if that is
// CONDITIONAL, pluginId, resourceType and conditions.
func (d Decision) AppendJSON(b []byte) []byte {
	switch {
	case d.json != "":
		return append(b, d.json...)
	case d.Result == Allow:
		return append(b, allowed...)
	case d.Result != Conditional:
		return append(b, denied...)
	}
	b = append(b, `{"result":"CONDITIONAL","pluginId":`...)
	b, _ = jsontext.AppendQuote(b, d.PluginID) // ill-formed text becomes U+FFFD
	b = append(b, `,"resourceType":`...)
	b, _ = jsontext.AppendQuote(b, d.ResourceType)
	b = append(b, `,"conditions":`...)
	return append(d.Conditions.AppendJSON(b), '}')
}

// Text returns what [Decision.AppendJSON] appends. It costs nothing but
// for conditions that [NewConditional] did not make a decision of.
func (d Decision) Text() string {
	switch {
	case d.json != "":
		return d.json
	case d.Result == Allow:
		return allowed
	case d.Result != Conditional:
		return denied
	}
	return string(d.AppendJSON(nil))
}

// MarshalJSON returns what [Decision.AppendJSON] appends. It returns no error.
func (d Decision) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// ParseDecision checks a policy's answer, decoded JSON as [criteria.Parse] takes
// it: a boolean, or an object whose member result is ALLOW, DENY or CONDITIONAL,
// the last with pluginId, resourceType and conditions. The member reason, where
// it is a string, says why, and other members are ignored, as they were by the
// policies' first home (@parsifal-m/plugin-permission-backend-module-opa-wrapper
// 2.0.2). The decision is as [NewConditional] makes it.
//
// Anything else is an error that says what came, and the decision beside it is
// DENY. The text quotes the policy's answer, so it is for the log alone.
func ParseDecision(v any) (d Decision, reason string, err error) {
	switch v := v.(type) {
	case bool:
		if v {
			return Decision{Result: Allow}, "", nil
		}
		return Decision{}, "", nil
	case map[string]any:
		if d, err = parseDocument(v); err != nil {
			return Decision{}, "", fmt.Errorf("policy's answer: %w", err)
		}
		reason, _ = v["reason"].(string)
		return d, reason, nil
	default:
		return Decision{}, "", fmt.Errorf("policy's answer must be an object or a boolean, is %s", describe(v))
	}
}

func parseDocument(document map[string]any) (Decision, error) {
	v, ok := document["result"]
	if !ok {
		return Decision{}, errors.New("result is missing")
	}
	switch v {
	case "ALLOW":
		return Decision{Result: Allow}, nil
	case "DENY":
		return Decision{}, nil
	case "CONDITIONAL":
		return parseConditional(document)
	default:
		return Decision{}, fmt.Errorf("result must be ALLOW, DENY or CONDITIONAL, is %s", describe(v))
	}
}

func parseConditional(document map[string]any) (Decision, error) {
	pluginID, err := text(document, "pluginId")
	if err != nil {
		return Decision{}, err
	}
	resourceType, err := text(document, "resourceType")
	if err != nil {
		return Decision{}, err
	}
	v, ok := document["conditions"]
	if !ok {
		return Decision{}, errors.New("conditions are missing, though the result is CONDITIONAL")
	}
	conditions, err := criteria.Parse(v)
	if err != nil {
		return Decision{}, err
	}
	return NewConditional(pluginID, resourceType, conditions), nil
}

// text returns a member that CONDITIONAL requires to be a non-empty string.
func text(document map[string]any, name string) (string, error) {
	v, ok := document[name]
	if !ok {
		return "", fmt.Errorf("%s is missing, though the result is CONDITIONAL", name)
	}
	s, ok := v.(string)
	if !ok || s == "" {
		return "", fmt.Errorf("%s must be a non-empty string, is %s", name, describe(v))
	}
	if !utf8.ValidString(s) { // as one JSON, two different ones would be the same
		return "", fmt.Errorf("%s must be valid UTF-8", name)
	}
	return s, nil
}

// describe says of what type v is and, for a scalar, how it begins.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case string:
		return "the string " + excerpt(v)
	case json.Number, float64:
		return "the number " + cut(fmt.Sprint(v))
	case []any:
		return fmt.Sprintf("an array of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("an object of %d members", len(v))
	default:
		return fmt.Sprintf("a Go %T", v)
	}
}

// excerpt quotes the start of s, fit for one line of log.
func excerpt(s string) string { return strconv.Quote(cut(s)) }

// cut returns the start of s, some 40 bytes.
func cut(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
