package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// A Puller reads what the plugins of a running Backstage publish.
type Puller struct {
	// Discovery says where plugins are.
	Discovery *discovery.Discovery
	// Token is a token that plugins take, of a user or of a service; empty for none.
	Token string
	// Plugins are the ids of the plugins to ask. Nobody has a list of all plugins.
	Plugins []string
	// Progress is told what came of each plugin; nil for nobody. It is called by one
	// goroutine.
	Progress func(Pulled)
}

// Pulled is what came of one plugin.
type Pulled struct {
	Plugin string
	// Missing is a plugin that is not there, or publishes nothing.
	Missing bool
	// Permissions and Rules are how many it publishes.
	Permissions, Rules int
	// Done of Of plugins were asked.
	Done, Of int
}

const (
	metadataPath = "/.well-known/backstage/permissions/metadata"
	maxMetadata  = 4 << 20
	pullTimeout  = 15 * time.Second
)

// Pull asks every plugin for its metadata and returns what they publish. Plugins that
// are not there are left out.
//
// The error is that of the first plugin that answers otherwise than with metadata or
// "not found", with the plugin's id; or that no plugin is there.
func (p *Puller) Pull(ctx context.Context) (*Inventory, error) {
	client := peer.NewClient(peer.NewTransport(peer.Options{Idle: 4, IdleFor: 10 * time.Second}))
	found := &Inventory{Permissions: []Permission{}, Rules: []Rule{}}
	plugins := distinct(slices.Clone(p.Plugins))
	there := 0
	for i, id := range plugins {
		published, err := p.ask(ctx, client, id)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %w", id, err)
		}
		pulled := Pulled{Plugin: id, Missing: published == nil, Done: i + 1, Of: len(plugins)}
		if published != nil {
			there++
			pulled.Permissions, pulled.Rules = len(published.Permissions), len(published.Rules)
			found.take(id, published)
		}
		if p.Progress != nil {
			p.Progress(pulled)
		}
	}
	if there == 0 {
		return nil, fmt.Errorf("none of %d plugins is there: is this the base URL of a Backstage backend?", len(plugins))
	}
	found.sort()
	err := found.validate()
	return found, err
}

// metadata is MetadataResponse of @backstage/plugin-permission-common.
type metadata struct {
	Permissions []Permission `json:"permissions"`
	Rules       []Rule       `json:"rules"`
}

func (p *Puller) ask(ctx context.Context, client *http.Client, id string) (*metadata, error) {
	base, err := p.Discovery.BaseURL(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+metadataPath, nil)
	if err != nil {
		return nil, errors.New("no request can be made for its URL")
	}
	request.Header.Set("Accept", "application/json")
	if p.Token != "" {
		request.Header.Set("Authorization", "Bearer "+p.Token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, peer.Error(err)
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("it refuses the token (status %d); give one of a user or of a service that Backstage lets in",
			response.StatusCode)
	default:
		return nil, fmt.Errorf("it answers with status %d", response.StatusCode)
	}
	body, err := peer.Read(response.Body, maxMetadata)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(response.Header.Get("Content-Type"), "json") {
		return nil, nil // the app's own page, which answers for what no plugin has
	}
	var published metadata
	if err := json.Unmarshal(body, &published); err != nil || published.Permissions == nil && published.Rules == nil {
		return nil, errors.New("its metadata is not of the shape {permissions, rules}")
	}
	return &published, nil
}

// take adds what a plugin publishes.
func (i *Inventory) take(id string, published *metadata) {
	for _, p := range published.Permissions {
		p.PluginID = id
		if !slices.ContainsFunc(i.Permissions, func(other Permission) bool { return other.Name == p.Name }) {
			i.Permissions = append(i.Permissions, p)
		}
	}
	for _, r := range published.Rules {
		r.PluginID = id
		i.Rules = append(i.Rules, r)
	}
}
