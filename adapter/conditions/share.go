package conditions

import (
	"context"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// posting is what makes calls identical: they are made once while they are under way.
type posting struct{ pluginID, subject, body string }

// posted is what came of a call.
type posted struct {
	results []wire.Result
	err     error
}

// share makes the call, or waits for the same one of the same subject that is
// under way.
func (c *Client) share(ctx context.Context, caller Caller, to endpoint, call call) ([]wire.Result, error) {
	if caller.Subject == "" {
		return c.post(ctx, caller, to, call)
	}
	what := posting{to.plugin.id, caller.Subject, string(call.body)}
	f, own := c.flights.Join(ctx, what)
	if own != nil {
		go func() {
			defer f.Cancel()
			// Who joins later must not keep it going: a plugin that is down would be tried
			// for as long as somebody asks, and never be left alone.
			own, cancel := context.WithTimeout(own, c.timeout)
			defer cancel()
			results, err := c.post(own, caller, to, call)
			c.flights.Landed(what, f)
			f.Land(posted{results, err})
		}()
	}
	select {
	case <-f.Done():
		return f.Value().results, f.Value().err
	case <-ctx.Done():
		c.flights.Leave(what, f)
		return nil, guard.Ended(ctx, to.plugin.id)
	}
}
