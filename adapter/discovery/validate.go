package discovery

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Validate reports everything that is wrong with o, each problem with its key path.
func (o Options) Validate() error {
	var problems []error
	catchAll := slices.ContainsFunc(o.Endpoints, func(e Endpoint) bool {
		return e.Target != "" && slices.Contains(e.Plugins, "*")
	})
	switch {
	case o.BaseURL == "" && !catchAll:
		problems = append(problems, errors.New("backend.baseUrl: missing; it says where the plugins are"))
	case o.BaseURL != "":
		if err := checkTarget(o.BaseURL); err != nil {
			problems = append(problems, fmt.Errorf("backend.baseUrl: %w", err))
		}
	}
	for i, e := range o.Endpoints {
		path := fmt.Sprintf("discovery.endpoints[%d]", i)
		if e.Target == "" {
			continue
		}
		if err := checkTarget(e.Target); err != nil {
			problems = append(problems, fmt.Errorf("%s.target: %w", path, err))
		}
		if len(e.Plugins) == 0 {
			problems = append(problems, fmt.Errorf("%s.plugins: names no plugin", path))
		}
	}
	return errors.Join(problems...)
}

// checkTarget says what is wrong with a target. It shows no password in it.
func checkTarget(target string) error {
	u, err := url.Parse(placeholder.ReplaceAllLiteralString(target, "id"))
	if err != nil {
		return errors.New("not a URL")
	}
	scheme, srv := strings.CutSuffix(u.Scheme, "+srv")
	switch {
	case scheme != "http" && scheme != "https":
		return fmt.Errorf("want an http or https URL, have %q", u.Redacted())
	case u.Hostname() == "":
		return fmt.Errorf("no host in %q", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("want a URL without ? and #, since paths are put behind it")
	case !isPort(u.Port()):
		return fmt.Errorf("no port in %q: want 1 to 65535", u.Redacted())
	case srv && u.Port() != "":
		return fmt.Errorf("a +srv target takes no port, its record names one: %q", u.Redacted())
	}
	return nil
}

// isPort is whether a port is one, or not given.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}
