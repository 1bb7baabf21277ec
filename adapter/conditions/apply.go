package conditions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

const (
	// sideBySide is how many plugins one Apply asks at a time.
	sideBySide = 16
	// callsAtOnce is how many calls one Apply makes to one plugin at a time, which
	// has a single thread to answer them.
	callsAtOnce = 4
	// singlyFor is how long a plugin that was found to refuse arrays of refs is
	// asked without trying again; it may be upgraded.
	singlyFor = 10 * time.Minute
)

// Question asks which resources fulfil the conditions of a decision.
type Question struct {
	// Decision is a Conditional one.
	Decision wire.Decision
	// Refs name resources of the decision's resource type, byte for byte as the
	// plugin knows them. They may repeat.
	Refs []string
}

// Outcome answers a [Question].
type Outcome struct {
	// Results holds Allow or Deny for each of the question's refs, in their order;
	// nil where Err is set.
	Results []wire.Result
	// Err is why there is no answer: [*guard.RefusedError], [*guard.UnavailableError], the error of the
	// caller's [TokenSource] as it is, or that of a cancelled ctx.
	Err error
}

// Apply has the plugins decide the questions and returns an outcome for each, in
// their order. An error concerns one plugin or one question; the others are
// answered all the same. It returns before ctx is done or shortly after.
//
// The call is POST {plugin}/.well-known/backstage/permissions/apply-conditions.
// Connections that are refused and the statuses 502, 503 and 504 are tried
// again, after Retry-After if the plugin names one, as long as time is left;
// nothing else is.
func (c *Client) Apply(ctx context.Context, caller Caller, questions []Question) []Outcome {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if caller.Log != nil {
		ctx = context.WithValue(ctx, logKey{}, caller.Log)
	}
	b := newBatch(questions)
	c.askAll(ctx, caller, b.inquiries)
	return b.outcomes()
}

func (c *Client) askAll(ctx context.Context, caller Caller, inquiries []*inquiry) {
	if len(inquiries) == 1 { // the usual case needs no goroutine
		c.ask(ctx, caller, inquiries[0])
		return
	}
	var side errgroup.Group
	side.SetLimit(sideBySide)
	for _, in := range inquiries {
		side.Go(func() error {
			c.ask(ctx, caller, in)
			return nil
		})
	}
	_ = side.Wait()
}

// ask puts everything there is to ask of one plugin.
func (c *Client) ask(ctx context.Context, caller Caller, in *inquiry) {
	base, err := c.discovery.BaseURL(ctx, in.pluginID)
	if err != nil {
		in.err = noBase(in.pluginID, err)
		return
	}
	to := endpoint{plugin: c.plugin(in.pluginID), url: base + wellKnown + "apply-conditions"}
	begun := time.Now()
	in.err = c.put(ctx, caller, to, in.spans(), to.plugin.singlyUntil.before(begun))
	if caller.Took != nil {
		caller.Took(in.pluginID, time.Since(begun))
	}
}

// put asks about spans in as few calls as the size limit allows.
//
// Arrays of refs are understood since @backstage/plugin-permission-node 0.10.0;
// older plugins answer 400. Since 400 can mean other things too, what was
// refused is then asked once more without arrays, and only when that succeeds
// the plugin is taken for an old one.
func (c *Client) put(ctx context.Context, caller Caller, to endpoint, spans []span, arrays bool) error {
	return each(ctx, pack(spans, arrays), func(ctx context.Context, call call) error {
		err := c.make(ctx, caller, to, call)
		refused, ok := errors.AsType[*guard.RefusedError](err)
		if !ok || refused.Status != http.StatusBadRequest || !call.hasArray() {
			return err
		}
		if c.put(ctx, caller, to, call.spans, false) != nil {
			return err
		}
		to.plugin.singlyUntil.set(time.Now().Add(singlyFor))
		c.logOf(ctx).WithField("plugin", to.plugin.id).
			Info("a plugin takes no arrays of resource refs, so it is asked about one by one for a while")
		return nil
	})
}

func (c *Client) make(ctx context.Context, caller Caller, to endpoint, call call) error {
	if ctx.Err() != nil {
		return guard.Ended(ctx, to.plugin.id)
	}
	results, err := c.share(ctx, caller, to, call)
	if err != nil {
		return err
	}
	call.fill(results)
	return nil
}

// post makes one call and reads the answer, the results of its spans in order. It
// may run in a goroutine of its own, so a panic over what the plugin sent ends
// here.
func (c *Client) post(
	ctx context.Context, caller Caller, to endpoint, call call,
) (results []wire.Result, err error) {
	defer func() {
		if panicked := peer.Panic(recover()); panicked != nil {
			results, err = nil, &guard.UnavailableError{PluginID: to.plugin.id, Cause: panicked}
		}
	}()
	var answer []byte
	err = to.plugin.guard.Pass(ctx, to.plugin.id, caller.Party, func(once bool) (err error) {
		if once {
			ctx = context.WithValue(ctx, onceKey{}, true)
		}
		answer, err = c.do(ctx, caller.Token, to, http.MethodPost, call.body)
		return err
	})
	if err != nil {
		return nil, err
	}
	results, err = readAnswer(answer, call.spans)
	if err != nil {
		err = fmt.Errorf("answer of apply-conditions: %w", err)
		return nil, &guard.UnavailableError{PluginID: to.plugin.id, Status: http.StatusOK, Cause: err}
	}
	return results, nil
}

// each runs do for every call, some at a time, and stops at the first error. No more
// calls are packed than are under way, and one.
func each(ctx context.Context, calls iter.Seq[call], do func(context.Context, call) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callsAtOnce)
	for one := range calls {
		over := ctx.Err() != nil
		group.Go(func() error { return do(ctx, one) }) // an error where ctx is done
		if over {
			break
		}
	}
	return group.Wait()
}
