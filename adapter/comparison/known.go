package comparison

import "github.com/stagedoor/stagedoor/adapter/criteria"

// Assume notes in a Space what is known of all entities, as far as rules of conditions are
// about it. The error is that of the params of a rule.
func (c *Comparer) Assume(s *criteria.Space, of ...criteria.Criteria) error {
	return c.assume(s, of...)
}
