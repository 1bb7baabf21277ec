package review

import (
	"context"

	"github.com/stagedoor/stagedoor/adapter/decision"
)

// Entities asks rules about the entities of an inventory.
type Entities struct{}

// EntityCounts are how many entities change hands.
type EntityCounts struct {
	Gained   int      `json:"gained"`
	Lost     int      `json:"lost"`
	Before   int      `json:"before"`
	After    int      `json:"after"`
	Of       int      `json:"of"`
	Examples []string `json:"examples"`
}

func (e *Entities) count(context.Context, *Difference, *decision.Outcome, *decision.Outcome) error {
	return nil
}

func (c *EntityCounts) add(*EntityCounts) {}

func (c *EntityCounts) lines(Affected) []string { return nil }
