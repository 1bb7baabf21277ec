package decision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Whatever a policy does with a claim, an error of that does not carry it into a log.
func TestLoggedHasNoClaims(t *testing.T) {
	const claim = "group:default/SECRETGROUP"
	for _, body := range []string{
		`to_number(input)`, `regex.match("(" , input)`, `regex.match(input, "a")`, `time.parse_rfc3339_ns(input)`,
		`net.cidr_contains(input, "10.0.0.1")`, `semver.compare(input, "1.0.0")`, `base64.decode(input)`, `json.unmarshal(input)`,
		`http.send({"method": "get", "url": "http://127.0.0.1:1", "headers": {"Authorization": [input]}})`,
		`units.parse_bytes(input)`, `time.parse_duration_ns(input)`, `io.jwt.decode(input)`, `hex.decode(input)`,
		`yaml.unmarshal(sprintf("a: [%s", [input]))`, `uuid.parse(input)`, `numbers.range(1, to_number(input))`, `to_number(input[_])`,
		`crypto.x509.parse_certificates(input)`, `graphql.parse(input, input)`, `glob.match("[", [], input)`, `to_number(lower(input))`,
	} {
		module := "package p\n\nv := x if x := " + body
		_, err := rego.New(rego.Query("data.p.v"), rego.Module("policy.rego", module), rego.Input(claim),
			rego.StrictBuiltinErrors(true)).Eval(context.Background())
		if err == nil {
			continue // it takes that, or the value is undefined
		}
		text := strings.ToLower(Logged(&Failure{Kind: FailureEvaluation, Cause: fmt.Errorf("a branch: %w", err)}))
		if strings.Contains(text, "secretgroup") || !strings.Contains(text, "policy.rego:3") {
			t.Errorf("%s: %s", body, text)
		}
	}
	for _, answer := range []any{
		claim, map[string]any{"result": claim}, map[string]any{claim: true},
		map[string]any{"result": "CONDITIONAL", "pluginId": claim, "resourceType": claim, "conditions": map[string]any{"rule": claim, claim: claim}},
		map[string]any{"result": "CONDITIONAL", "pluginId": "p", "resourceType": "t", "conditions": map[string]any{"anyOf": []any{claim}}},
	} {
		_, _, err := wire.ParseDecision(answer)
		if err == nil {
			continue
		}
		if text := Logged(&Failure{Kind: FailureAnswer, Cause: err}); strings.Contains(text, "SECRET") {
			t.Errorf("%v: %s", answer, text)
		}
	}
	if text := Logged(errors.New(`plugin "todo" is away`)); text != `plugin "todo" is away` {
		t.Error(text)
	}
}
