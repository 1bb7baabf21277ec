package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/server"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// event is the decision-log event of item i.
func event(r Record, i int, identity *ast.Term) (*server.Info, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	input := r.Batch.Input
	if input == nil {
		input = decision.Input(r.Permissions[i], identity)
	}
	document, err := ast.JSON(input)
	if err != nil {
		return nil, err
	}
	var outcome decision.Outcome
	var answer Answer
	if i < len(r.Batch.Outcomes) {
		outcome, answer = *r.Batch.Outcomes[i], r.Answers[i]
	} else { // the policy did not look at the request
		outcome.Err = r.Err
	}
	custom := map[string]any{"request_id": r.RequestID, "item": i, "remembered": outcome.Remembered}
	if r.ByOperator {
		custom["by_operator"] = true
	}
	if len(outcome.Excluded) > 0 {
		custom["excluded_branches"] = texts(outcome.Excluded)
	}
	if reason := cmp.Or(outcome.Reason, titles(outcome.Rules)); reason != "" {
		custom["reason"] = reason
	}
	if len(outcome.Rules) > 0 {
		custom["rules"] = outcome.Rules
	}
	if answer.Refs != nil {
		applied := map[string]any{"resource_refs": answer.Refs}
		if answer.Err != nil {
			applied["error"] = answer.Err.Error()
		} else {
			applied["results"] = resultTexts(answer.Results)
		}
		custom["apply_conditions"] = applied
	}
	if hash := r.claimsHash(); hash != "" {
		custom["claims_sha256"] = hash
	}
	if r.Err != nil {
		custom["unanswered"] = decision.Logged(r.Err)
	}
	if outcome.Err != nil {
		custom["error"] = eventError(outcome.Err)
	}
	info := &server.Info{
		Bundles: map[string]server.BundleInfo{}, DecisionID: id.String(), TraceID: r.TraceID,
		Path: r.Batch.Entrypoint, Timestamp: r.Time.UTC(), Input: &document, InputAST: input,
		EvaluatedRuleLabels: outcome.RuleLabels, Custom: custom,
	}
	for name, revision := range r.Batch.Revisions {
		info.Bundles[name] = server.BundleInfo{Revision: revision}
	}
	// A decision that stagedoor held to be a failure has both.
	if outcome.Err == nil || outcome.Decision.Result == wire.Conditional {
		info.Results = pointerTo(decisionDocument(outcome.Decision))
	}
	if r.Err == nil {
		info.MappedResults = pointerTo(finalDocument(answer))
	}
	return info, nil
}

// eventError is an error as the decision log shows it. OPA has a member for errors,
// but cannot read its own events with one again (logs.EventV1 of OPA 1.22.4), which
// it does where they turn out to be too large for one upload, and then loses all.
func eventError(err error) map[string]any {
	code := decision.FailureEvaluation
	if failure, ok := errors.AsType[*decision.Failure](err); ok {
		code = failure.Kind
	}
	return map[string]any{"code": string(code), "message": decision.LoggedPart(err)}
}

func pointerTo(v any) *any { return &v }

// decisionDocument is the policy's own answer as JSON.
func decisionDocument(d wire.Decision) any {
	var document any
	if err := json.Unmarshal(d.AppendJSON(nil), &document); err != nil {
		return d.Result.String()
	}
	return document
}

// finalDocument is what the caller was told.
func finalDocument(a Answer) any {
	if a.FinalList != nil {
		return resultTexts(a.FinalList)
	}
	return a.Final.String()
}

func resultTexts(results []wire.Result) []any {
	list := make([]any, len(results))
	for i, result := range results {
		list[i] = result.String()
	}
	return list
}

func texts(errs []error) []any {
	list := make([]any, len(errs))
	for i, err := range errs {
		list[i] = decision.LoggedPart(err)
	}
	return list
}

// titles are the reason where the policy gives none: what the rules are called.
func titles(rules []decision.Rule) string {
	var titles []string
	for _, rule := range rules {
		if rule.Title != "" && !slices.Contains(titles, rule.Title) {
			titles = append(titles, rule.Title)
		}
	}
	return strings.Join(titles, "; ")
}
