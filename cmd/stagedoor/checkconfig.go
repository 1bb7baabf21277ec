package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/bundles"
)

// checkConfig checks all that can be checked without being seen from outside, and says
// what will serve: what OPA's bundles will bring, or a remote server decides, is not
// known.
func checkConfig(ctx context.Context, out io.Writer, load loader) error {
	c, err := load()
	if err != nil {
		return err
	}
	c.Supply.Default = bundles.Default()
	policy, err := describeServing(ctx, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "policy: %s\nkeys: %s\nplugins: %s\npermission API: %s\noperator's API: %s\n", policy,
		describeKeys(c.Identity.PluginKeyStore), describePlaces(c),
		describeEndpoint(c.Endpoint, c.BasePath), describeEndpoint(c.Admin, ""))
	return err
}

func describeServing(ctx context.Context, c *config.Config) (string, error) {
	entrypoint := ", entrypoint " + c.Entrypoint
	if c.Entrypoint == "" {
		entrypoint = ", entrypoint as it is annotated"
	}
	switch {
	case c.Remote != nil:
		return "the OPA server at " + redacted(c.Remote.URL) + entrypoint, nil
	case c.Supply.Path == "" && len(c.OPA.PolicyKeys()) > 0:
		return strings.Join(c.OPA.PolicyKeys(), " and ") + entrypoint + "; checked when it arrives", nil
	}
	vetter, err := vetted.New(vettedBy(c.Entrypoint, c))
	if err != nil {
		return "", err
	}
	state, err := supply.New(c.Supply, vetter, newLog(logrus.ErrorLevel)).Load(ctx)
	if err != nil {
		return "", err
	}
	from := c.Supply.Path
	if from == "" {
		from = "the default that is compiled in"
	}
	style := "decision style"
	if state.AboutResource() {
		style = "about the resource"
	}
	return fmt.Sprintf("%s, entrypoint %s, %s", from, state.Entrypoint, style), nil
}

func describeKeys(o keyring.Options) string {
	if o.Type != "static" {
		return keysInMemory
	}
	var published []string
	for _, k := range o.Keys[1:] {
		published = append(published, k.KeyID)
	}
	if len(published) == 0 {
		return o.Keys[0].KeyID + " signs"
	}
	return o.Keys[0].KeyID + " signs; " + strings.Join(published, ", ") + " published too"
}

func describePlaces(c *config.Config) string {
	var places []string
	for _, e := range c.Discovery.Endpoints {
		if e.Target != "" {
			places = append(places, strings.Join(e.Plugins, ", ")+" at "+redacted(e.Target))
		}
	}
	if c.Discovery.BaseURL != "" {
		places = append(places, "others at "+redacted(strings.TrimRight(c.Discovery.BaseURL, "/"))+"/api/{{pluginId}}")
	}
	return strings.Join(places, "; ")
}

// redacted is a URL without its password. The placeholder in it is kept readable.
func redacted(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.User == nil {
		return target
	}
	return u.Redacted()
}

func describeEndpoint(o endpoint.Options, path string) string {
	switch {
	case o.TLS == nil && o.H2C:
		return o.Address + path + ", plain HTTP/1 and HTTP/2"
	case o.TLS == nil:
		return o.Address + path + ", plain HTTP"
	case o.TLS.ClientCAFile == "":
		return o.Address + path + ", TLS"
	case o.TLS.ClientsOptional:
		return o.Address + path + ", TLS, client certificates where they are shown"
	}
	return o.Address + path + ", TLS, client certificates required"
}
