package anyone_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestExamples wants a caller whom the policy allows itself, by conditions that some callers
// meet. A never row without one is not red.
func TestExamples(t *testing.T) {
	for i, body := range []string{
		`some c in input.identity.claims; startswith(c, "group:default/"); endswith(c, "-admins")`,
		`some c in input.identity.claims; regex.match("^group:default/[a-z]+-admins$", c)`,
		`some c in input.identity.claims; split(c, "/")[1] == "admins"`,
		`some c in input.identity.claims; glob.match("group:*/admins", ["/"], c)`,
		`count(input.identity.claims) > 3`,
		`regex.match("^user:[^/]+/svc-", input.identity.user)`,
		`startswith(input.identity.actor, "plugin:sc")`,
		`count(input.identity.claims) == 0`,
		`some c in input.identity.claims; lower(c) == "group:default/admins"; c != "group:default/admins"`,
		`some c in input.identity.claims; c == concat("/", ["group:default", "admins"])`,
		`sprintf("group:default/%s-admins", [split(input.identity.user,"/")[1]]) in input.identity.claims`,
		`not input.identity`,
		`not input.identity.user in input.identity.claims; input.identity`,
		`every c in input.identity.claims { startswith(c, "group:") }; count(input.identity.claims) > 0`,
		`input.identity.user == "user:default/ann"; "group:default/a" in input.identity.claims; not "group:default/b" in input.identity.claims`,
		`count([c | some c in input.identity.claims; startswith(c, "group:")]) >= 2`,
		`count({c | some c in input.identity.claims; c in ["group:default/a", "group:default/b", "group:default/c"]}) == 2`,
		`some a, b in input.identity.claims; endswith(b, "x")`,
		`some c in input.identity.claims; contains(c, "adm"); contains(c, "ins"); startswith(c, "group:")`,
		`input.identity.actor == "plugin:catalog"; not startswith(input.identity.user, "user:default/")`,
		`endswith(input.identity.user, "/root"); startswith(input.identity.user, "user:internal")`,
		`trim_prefix(input.identity.user, "user:default/") == "root"`,
		`some c in input.identity.claims; c != input.identity.user; startswith(c, "user:")`,
		`count(input.identity.user) > 60`,
		`some c in input.identity.claims; [kind, rest] := split(c, ":"); kind == "role"; rest == "default/x"`,
		`some c in input.identity.claims; substring(c, 0, 5) == "team:"`,
		`some c in input.identity.claims; c > "z"`,
		`input.identity.claims[0] == "group:default/a"`,
		`replace(input.identity.user, "user:", "group:") in input.identity.claims`,
		`some c in input.identity.claims; upper(c) == "GROUP:DEFAULT/ADMINS"`,
		`some c in input.identity.claims; "admins" in split(c, "/")`,
		`some c in input.identity.claims; some d in input.identity.claims; c != d; endswith(c, "/a"); endswith(d, "/b")`,
		`some c in input.identity.claims; trim_suffix(c, "-leads") != c`,
		`some c in input.identity.claims; indexof(c, "admin") != -1`,
		`some c in input.identity.claims; strings.any_prefix_match(c, ["group:x", "group:y"])`,
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			p := opened(t, []byte("allow if {\n\t"+strings.ReplaceAll(body, "; ", "\n\t")+"\n}\n"), "{}")
			every, err := anyone.EveryoneOf(t.Context(), p, comparison.NewComparer(p))
			if err != nil {
				t.Fatal(err)
			}
			found, err := every.Nobody(t.Context(), anyone.Forbidden{Permission: remove, When: criteria.Criteria{Op: criteria.Always}})
			if err != nil || found.Outside != "" {
				t.Fatal(found, err)
			}
			if !slices.ContainsFunc(found.Callers, func(c decision.Caller) bool {
				outcome, err := p.Decide(t.Context(), c, remove)
				return err == nil && outcome.Err == nil && outcome.Decision.Result == wire.Allow
			}) {
				t.Errorf("%s: none of %v is allowed", body, found.Callers)
			}
		})
	}
}
