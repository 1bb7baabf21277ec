package comparison

import (
	"errors"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Said is a comparison in words. Callers for whom it is equal are told together.
type Said struct {
	Change       Change `json:"change"`
	GainsInWords string `json:"gainsInWords,omitempty"`
	LosesInWords string `json:"losesInWords,omitempty"`
	OldInWords   string `json:"oldInWords"`
	NewInWords   string `json:"newInWords"`
	// Error is why the new policy fails, or why a part of it does, of BREAKS.
	Error string `json:"error,omitempty"`
}

// Say says a comparison of two outcomes for a caller.
func (c Comparison) Say(v words.Vocabulary, before, after *decision.Outcome, who words.Caller) Said {
	said := Said{Change: c.Change, OldInWords: inWords(v, before, who), NewInWords: inWords(v, after, who)}
	switch {
	case after.Err != nil:
		said.Error = report.OneLine(after.Err.Error())
	case c.Change == Breaks:
		said.Error = report.OneLine(errors.Join(after.Excluded...).Error())
	}
	if c.Gains.Op != criteria.Never {
		said.GainsInWords = v.Condition(c.Gains, who)
	}
	if c.Loses.Op != criteria.Never {
		said.LosesInWords = v.Condition(c.Loses, who)
	}
	return said
}

// SayWitness says what is true of a resource for which the decisions differ.
func (c Comparison) SayWitness(v words.Vocabulary, who words.Caller) string {
	var said []string
	for rule, holds := range c.Witness {
		said = append(said, v.Leaf(rule, holds, who))
	}
	slices.Sort(said)
	return strings.Join(said, ", and ")
}

// fails is what is said of a decision that could not be made.
const fails = "fails"

// inWords says a decision.
func inWords(v words.Vocabulary, of *decision.Outcome, who words.Caller) string {
	switch {
	case of.Err != nil:
		return fails
	case of.Decision.Result == wire.Conditional:
		return v.Condition(of.Decision.Conditions, who)
	}
	return of.Decision.Result.String()
}

// Lines say a change, what matters most first.
func (s Said) Lines() []string {
	var lines []string
	add := func(before, text string) {
		if text != "" {
			lines = append(lines, before+text)
		}
	}
	if s.NewInWords == fails {
		add("fails: ", s.Error)
	} else {
		add("a part of it fails: ", s.Error)
	}
	switch {
	case s.GainsInWords == "" && s.LosesInWords == "":
	case s.OldInWords == "DENY" || s.NewInWords == "DENY" || s.OldInWords == "ALLOW" || s.NewInWords == "ALLOW":
		// The two decisions say it in fewer words.
	default:
		add("gains: ", s.GainsInWords)
		add("loses: ", s.LosesInWords)
	}
	add("was: ", s.OldInWords)
	if s.NewInWords != fails {
		add("now: ", s.NewInWords)
	}
	return lines
}
