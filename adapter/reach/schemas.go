package reach

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// What is read of others for one JSON Schema.
const (
	maxSchemas    = 32
	maxSchema     = 1 << 20
	schemaTimeout = 5 * time.Second // for each
	maxRedirects  = 3
)

// fetchedKey is the key in a schema under which what it refers to stands.
const fetchedKey = "stagedoor: fetched"

// closed is a schema with all that it refers to elsewhere, so that OPA's reader asks for
// nothing: what that reads of an allowed host it lets refer to files of this machine. A
// schema that refers to nothing elsewhere is as it was.
func closed(bctx topdown.BuiltinContext, v ast.Value, allowed []string) (ast.Value, error) {
	schema, err := ast.JSON(v)
	if err != nil {
		return nil, err
	}
	if text, ok := schema.(string); ok && json.Unmarshal([]byte(text), &schema) != nil {
		return v, nil //nolint:nilerr // the builtin refuses it
	}
	c := &closing{allowed: allowed, cache: bctx.InterQueryBuiltinValueCache, have: map[string]bool{}}
	if err := c.close(bctx.Context, schema, &url.URL{}); err != nil {
		return nil, err
	}
	root, ok := schema.(map[string]any)
	if len(c.fetched) == 0 || !ok {
		return v, nil
	}
	root[fetchedKey] = c.fetched
	return ast.InterfaceToValue(root)
}

// closing gets what a schema refers to.
type closing struct {
	allowed []string
	cache   cache.InterQueryValueCacheBucket // nil for none
	have    map[string]bool
	fetched []any
}

// close gets all that a part of a schema refers to, and what that refers to in turn. The
// base is the address that relative references are to.
func (c *closing) close(ctx context.Context, part any, base *url.URL) error {
	switch part := part.(type) {
	case []any:
		for _, element := range part {
			if err := c.close(ctx, element, base); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range []string{"$id", "id"} {
			if text, ok := part[key].(string); ok {
				if own, err := base.Parse(text); err == nil {
					base = own
				}
			}
		}
		for key, value := range part {
			text, ok := value.(string)
			if !ok {
				if err := c.close(ctx, value, base); err != nil {
					return err
				}
				continue
			}
			if err := checkFile(key, text); err != nil {
				return err
			}
			if key == "$ref" {
				if err := c.follow(ctx, text, base); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// follow gets the document that a reference is to, where it is elsewhere.
func (c *closing) follow(ctx context.Context, reference string, base *url.URL) error {
	to, err := base.Parse(reference)
	if err != nil {
		return nil //nolint:nilerr // OPA refuses it
	}
	to.Fragment, to.RawFragment = "", ""
	switch {
	case to.Host == "" || to.Hostname() == metaSchemas || c.have[to.String()]:
		return nil
	case len(c.fetched) == maxSchemas:
		return fmt.Errorf("a JSON Schema refers to more than %d others", maxSchemas)
	}
	c.have[to.String()] = true
	document, err := c.fetch(ctx, to)
	if err != nil {
		return err
	}
	for _, key := range []string{"$id", "id"} {
		if own, is := document[key]; is && own != to.String() {
			return fmt.Errorf("the JSON Schema at %s calls itself otherwise, by %s", to, key)
		}
	}
	if _, is := document["id"]; !is {
		document["$id"] = to.String()
	}
	c.fetched = append(c.fetched, document)
	return c.close(ctx, document, to)
}

// fetch gets a document, of which nobody else has the parts.
func (c *closing) fetch(ctx context.Context, from *url.URL) (document map[string]any, err error) {
	key := ast.String("JSON Schema at " + from.String()) // no schema that OPA would have there
	var text []byte
	if c.cache != nil {
		known, _ := c.cache.Get(key)
		text, _ = known.([]byte)
	}
	if text == nil {
		if text, err = c.get(ctx, from); err != nil {
			return nil, fmt.Errorf("the JSON Schema at %s: %w", from, err)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil || document == nil {
		return nil, fmt.Errorf("at %s is no JSON Schema that is an object", from)
	}
	if c.cache != nil {
		c.cache.Insert(key, text)
	}
	return document, nil
}

func (c *closing) get(ctx context.Context, from *url.URL) ([]byte, error) {
	if from.Scheme != "http" && from.Scheme != "https" {
		return nil, fmt.Errorf("it cannot be had by %q", from.Scheme)
	}
	if err := checkHost("a JSON Schema", from.Hostname(), c.allowed); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	client := &http.Client{CheckRedirect: func(to *http.Request, before []*http.Request) error {
		if len(before) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return checkHost("a JSON Schema", to.URL.Hostname(), c.allowed)
	}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxSchema+1))
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the answer is %d", answer.StatusCode)
	case len(text) > maxSchema:
		return nil, fmt.Errorf("it has more than %d bytes", maxSchema)
	}
	return text, nil
}
