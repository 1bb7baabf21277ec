package tables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/explain"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// decidedBy says which rules decided, for a row that failed; empty where none can be
// told.
func (r *runner) decidedBy(ctx context.Context, q offline.Question) string {
	rules, err := explain.Decided(ctx, r.policy, q)
	if err != nil || len(rules) == 0 {
		return ""
	}
	return ", decided by " + list(rules)
}

// because says that other rules decided than the row says, or nothing.
func (r *runner) because(ctx context.Context, row Row, q offline.Question) (string, error) {
	if row.Because == "" {
		return "", nil
	}
	rules, err := explain.Decided(ctx, r.policy, q)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(rules, func(rule explain.Rule) bool { return rule.Title == row.Because }) {
		return "", nil
	}
	decided := "no rule is, without which it would be another answer"
	if len(rules) > 0 {
		decided = "it is " + list(rules)
	}
	return fmt.Sprintf("it is %s as expected, but not because of %q: %s", row.expected(), row.Because, decided), nil
}

func list(rules []explain.Rule) string {
	const most = 4
	var names []string
	for _, rule := range rules[:min(most, len(rules))] {
		names = append(names, rule.String())
	}
	return strings.Join(names, ", ")
}
