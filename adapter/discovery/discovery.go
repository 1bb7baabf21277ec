// Package discovery finds the base URL of a Backstage plugin from its id: from
// discovery.endpoints, as HostDiscovery of @backstage/backend-defaults 0.19.0
// does, else {backend.baseUrl}/api/{pluginId}. HostDiscovery's last resort is the
// address that its own backend listens on, which is not stagedoor's.
//
// URLs come from configuration alone, never from a token or a policy; an id only
// selects or fills in a template, and only an id of letters, digits, hyphen and
// underscore is ever filled in.
package discovery

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Options are the keys of Backstage's configuration that name plugins' places.
type Options struct {
	// BaseURL is backend.baseUrl. It may be empty where an endpoint names "*".
	BaseURL string
	// Endpoints is discovery.endpoints; the last that names a plugin serves it, as
	// in HostDiscovery, and the last that names "*" serves those that no other
	// names.
	Endpoints []Endpoint
}

// Endpoint is one entry of discovery.endpoints.
type Endpoint struct {
	// Target is the internal target, in which {{pluginId}} stands for the plugin's
	// id. An endpoint without one is for front ends alone and says nothing. Its
	// scheme may be http+srv or https+srv, whose host is looked up as a DNS SRV
	// record at each call.
	Target  string
	Plugins []string
}

// Discovery resolves plugin ids. It is safe for concurrent use.
type Discovery struct {
	options atomic.Pointer[Options]
}

// New returns a Discovery. Every problem of o is in the error, joined.
func New(o Options) (*Discovery, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &Discovery{}
	d.options.Store(&o)
	return d, nil
}

// Replace has plugins found by other options from here on. Where something is wrong
// with them, the old ones go on. What was learned from a plugin, such as its keys, may
// be used for as long as before.
func (d *Discovery) Replace(o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	d.options.Store(&o)
	return nil
}

var pluginID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ValidID reports whether id could be that of a plugin: letters, digits, hyphen
// and underscore, and at least one.
func ValidID(id string) bool { return pluginID.MatchString(id) }

// Spelling returns how the id of a plugin is written here. Routers take ids in any
// case, so one plugin could call itself by many; whoever compares needs one. An id
// that an endpoint names is spelt as there, and any other in lower case, which is how
// Backstage has plugins named.
func (d *Discovery) Spelling(id string) string {
	spelt := strings.ToLower(id)
	for _, e := range d.options.Load().Endpoints {
		for _, name := range e.Plugins {
			if name == id {
				return id
			}
			if strings.EqualFold(name, id) {
				spelt = name // the last counts, as it does for the target
			}
		}
	}
	return spelt
}

// placeholder stands for the plugin's id in a target.
var placeholder = regexp.MustCompile(`\{\{\s*pluginId\s*\}\}`)

// BaseURL returns the base URL of the plugin, without a trailing slash. It fails
// for an id that could not be one, and for a target by DNS SRV record whose look-up fails.
func (d *Discovery) BaseURL(ctx context.Context, id string) (string, error) {
	if !ValidID(id) {
		return "", fmt.Errorf("%q cannot be the id of a plugin", id)
	}
	target := d.target(id)
	target = placeholder.ReplaceAllLiteralString(target, id)
	return resolveSRV(ctx, strings.TrimRight(target, "/"))
}

func (d *Discovery) target(id string) string {
	options := d.options.Load()
	for _, name := range []string{id, "*"} {
		for _, e := range slices.Backward(options.Endpoints) {
			if e.Target != "" && slices.Contains(e.Plugins, name) {
				return e.Target
			}
		}
	}
	return strings.TrimRight(options.BaseURL, "/") + "/api/{{pluginId}}"
}

func resolveSRV(ctx context.Context, target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", fmt.Errorf("discovery target: %w", err)
	}
	scheme, srv := strings.CutSuffix(u.Scheme, "+srv")
	if !srv {
		return target, nil
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", u.Hostname())
	if err != nil {
		return "", fmt.Errorf("discovery target %s: %w", u.Host, err)
	}
	if len(records) == 0 {
		return "", fmt.Errorf("discovery target %s: no SRV record", u.Host)
	}
	// LookupSRV has sorted by priority and shuffled by weight.
	u.Scheme = scheme
	u.Host = net.JoinHostPort(strings.TrimRight(records[0].Target, "."), strconv.Itoa(int(records[0].Port)))
	return u.String(), nil
}
