package opa

import (
	"context"

	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
)

// witness is a decision-log plugin that sees which events get through mask and
// drop. It is in use where recording is required.
type witness struct{}

const witnessName = "stagedoor_witness"

type witnessKey struct{}

// Witnessed is a context with which OPA's decision log is given an event, and whether
// the event got through mask and drop, as can be read when the log returns. It says
// so only where [Options.AuditRequired] is set.
func Witnessed(ctx context.Context) (context.Context, *bool) {
	seen := new(bool)
	return context.WithValue(ctx, witnessKey{}, seen), seen
}

func (witness) Log(ctx context.Context, _ logs.EventV1) error {
	if seen, ok := ctx.Value(witnessKey{}).(*bool); ok {
		*seen = true
	}
	return nil
}

func (witness) Start(context.Context) error                    { return nil }
func (witness) Stop(context.Context)                           {}
func (witness) Reconfigure(context.Context, any)               {}
func (witness) Validate(*plugins.Manager, []byte) (any, error) { return struct{}{}, nil }
func (witness) New(m *plugins.Manager, _ any) plugins.Plugin {
	m.UpdatePluginStatus(witnessName, &plugins.Status{State: plugins.StateOK})
	return witness{}
}
