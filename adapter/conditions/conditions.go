// Package conditions asks the backends of Backstage plugins about conditional
// decisions: which of some resources fulfil the conditions that a policy gave,
// and whether the plugin knows the rules that the conditions name.
//
// [Client.Apply] turns CONDITIONAL decisions with resourceRefs into ALLOW and
// DENY by the plugins' apply-conditions endpoint. Plugins are asked side by side
// and each of them once, or as often as its limit on request bodies demands;
// equal conditions and refs travel once; identical calls of one caller that are
// under way at the same time become one. Whatever goes wrong is an error of the
// questions concerned, [*guard.RefusedError] or [*guard.UnavailableError], and never an ALLOW.
//
// [Client.Check] holds a decision against the rules that the plugin publishes at
// its metadata endpoint. It never waits: what is not known yet is fetched in the
// background and passes meanwhile, since the plugin itself has the last word.
//
// # Slow plugins
//
// Who waits for a plugin must cost nobody who does not. Each plugin has turns for
// [guard.Calls] calls and room for [guard.Waiting] more, which callers share
// ([fair.Line]); who finds neither is told at once. A plugin that gave no answer
// [guard.Failures] times in a row is left alone: its circuit breaker opens, and calls
// fail at once until one that is let through every [guard.Pause] succeeds. An answer
// of any kind, be it an error of the plugin's, says that it is there, and one slow
// question among others does not open the breaker. That it opens, and closes, is in
// the log and in a metric.
//
// # Permissions
//
// [Client.Hydrate] knows what plugins publish of their permissions, at the same
// endpoint: whoever asks about one as a basic permission may not know that it is about
// a resource.
//
// Both endpoints are those of createPermissionIntegrationRouter in
// @backstage/plugin-permission-node 0.11.6; what older releases do differently is
// said where it matters. URLs come from [discovery.Discovery] alone, which
// refuses an id that could not be a plugin's.
package conditions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/maypok86/otter/v2"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/flight"
	"github.com/stagedoor/stagedoor/adapter/tracing"
)

const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
	// maxPlugins bounds what is remembered of plugins, whose ids a policy may
	// make up.
	maxPlugins = 256
)

// Options are the settings of a [Client].
type Options struct {
	// Timeout is how long one [Client.Apply] may take, retries included, and one
	// fetch of metadata; a context that ends earlier bounds it further. Zero is 10
	// seconds (stagedoor.conditions.timeout).
	Timeout time.Duration
	// Owners are the plugins that publish permissions, by the permissions' names, as
	// far as that is known in advance.
	Owners map[string]string
	// Tracer gets a span for each call; nil for none.
	Tracer *tracing.Tracer
	// Transport makes the calls; nil is one of its own. Tests put theirs here.
	Transport http.RoundTripper
}

// Validate reports what is wrong with o, with its key.
func (o Options) Validate() error {
	if o.Timeout < 0 || o.Timeout > maxTimeout {
		return fmt.Errorf("stagedoor.conditions.timeout: want more than 0s and at most %v, have %v", maxTimeout, o.Timeout)
	}
	return nil
}

// TokenSource returns the bearer token for one call of the plugin, or "" for a
// call without one. It must be safe for concurrent use.
type TokenSource func(ctx context.Context, pluginID string) (string, error)

// Caller is on whose behalf plugins are asked.
type Caller struct {
	// Subject sets callers apart: identical calls that are under way at the same
	// time are made once for all callers with equal Subjects, with the token of any
	// one of them. What the plugin's answer may depend on must therefore be in it,
	// as the caller's own token is. With an empty Subject no call is shared.
	Subject string
	// Party is who gets a share of a plugin's calls.
	Party fair.Party
	// Took is told how long each plugin took; nil for nobody.
	Took func(pluginID string, took time.Duration)
	// Token gives the tokens; nil sends none.
	Token TokenSource
	// Log takes what there is to say of the calls, such as that they are tried
	// again; nil is the [Client]'s own. A call that is shared keeps to the log of who
	// came first.
	Log *logrus.Entry
}

// logKey is the key of the caller's log in the context of an Apply.
type logKey struct{}

// logOf returns the log of the Apply that ctx belongs to, or else the client's.
func (c *Client) logOf(ctx context.Context) *logrus.Entry {
	if log, ok := ctx.Value(logKey{}).(*logrus.Entry); ok {
		return log
	}
	return c.log
}

// Client asks plugins. It is safe for concurrent use.
type Client struct {
	discovery *discovery.Discovery
	log       *logrus.Entry
	timeout   time.Duration
	transport *http.Transport
	http      *retryablehttp.Client
	flights   flight.Group[posting, posted]
	plugins   *otter.Cache[string, *plugin]
	metadata  metadata

	permissions permissions
}

// New returns a Client. Metadata is fetched with the tokens of service, which
// speaks for stagedoor itself: plugins let nobody read it without one.
func New(o Options, d *discovery.Discovery, service TokenSource, log *logrus.Entry) (*Client, error) {
	if d == nil || log == nil {
		return nil, errors.New("conditions: discovery and log are required")
	}
	plugins, err := otter.New(&otter.Options[string, *plugin]{MaximumSize: maxPlugins})
	if err != nil {
		return nil, fmt.Errorf("conditions: cache of plugins: %w", err)
	}
	c := &Client{discovery: d, log: log, transport: newTransport(), plugins: plugins}
	c.permissions.init(o.Owners)
	c.timeout = cmp.Or(o.Timeout, defaultTimeout)
	transport := o.Transport
	if transport == nil {
		transport = c.transport
	}
	c.http = newHTTPClient(transport, o.Tracer, c.logOf)
	if err := c.metadata.init(service); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the fetching of metadata, waits until it has ended, and closes idle
// connections. [Client.Apply] and [Client.Check] stay usable, Check by what is
// already known.
func (c *Client) Close() {
	c.metadata.stop()
	c.transport.CloseIdleConnections()
}

// plugin is what is remembered of a plugin.
type plugin struct {
	id string
	// singlyUntil is when refs may be sent to it as arrays again.
	singlyUntil atomicTime
	published   published
	guard       guard.Guard
}

func (c *Client) plugin(id string) *plugin {
	p, _ := c.plugins.ComputeIfAbsent(id, func() (*plugin, bool) {
		p := &plugin{id: id}
		p.published.first = make(chan struct{})
		p.guard.Init(id, c.timeout, c.log)
		return p, false
	})
	return p
}
