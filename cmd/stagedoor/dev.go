package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/endpoint"
	"github.com/stagedoor/stagedoor/adapter/sample"
	"github.com/stagedoor/stagedoor/bundles"
)

// serveDev serves with a sample Backstage beside it, which is where the plugins
// are. Everything else may be configured, but for where it listens, which may not
// leave loopback.
func serveDev(ctx context.Context, out io.Writer, files []string) error {
	backstage, err := sample.New(ctx)
	if err != nil {
		return err
	}
	defer backstage.Close()
	load := func() (*config.Config, error) {
		c, err := config.Load(files, map[string]any{
			"backend":   map[string]any{"baseUrl": backstage.URL, "lifecycle": map[string]any{"serverShutdownDelay": "0s"}},
			"discovery": nil,
		})
		if err != nil {
			return nil, err
		}
		for key, o := range map[string]endpoint.Options{"stagedoor.listen": c.Endpoint, "stagedoor.admin.listen": c.Admin} {
			if !onLoopback(o.Address) {
				return nil, fmt.Errorf(
					"%s: --dev lets anybody be anybody, so it listens on loopback only, not on %s", key, o.Address)
			}
		}
		return c, nil
	}
	return serve(ctx, load, bundles.Dev(), func(s *server) error {
		s.log.Warn("--dev: anybody may have a token of anybody; this guards nothing")
		backstage.Serve(s.URL() + s.config.BasePath)
		return printRoad(out, s.URL()+s.config.BasePath, backstage)
	})
}

func onLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// question is one curl line of the road.
type question struct {
	title, permission, ref string
}

// road is a question for each kind of answer, all of alice.
var road = []question{
	{"ALLOW: somebody signed in reads", `"type":"basic","name":"todo.list","attributes":{"action":"read"}`, ""},
	{"DENY: nobody said that alice may create",
		`"type":"basic","name":"todo.create","attributes":{"action":"create"}`, ""},
	{"CONDITIONAL: alice may update what fulfils the criteria", updateTodo, ""},
	{"by resourceRef: todo-1 is alice's, todo-2 is not, and the plugin says so", updateTodo, `["todo-1","todo-2"]`},
}

const updateTodo = `"type":"resource","name":"todo.item.update","attributes":{"action":"update"},` +
	`"resourceType":"todo-item"`

// printRoad prints a ready curl line, with a fresh token, for each question.
func printRoad(out io.Writer, url string, backstage *sample.Backstage) error {
	var text strings.Builder
	for _, q := range road {
		token, err := backstage.PluginToken("user:default/alice")
		if err != nil {
			return err
		}
		item := `{"id":"1","permission":{` + q.permission + `}`
		if q.ref != "" {
			item += `,"resourceRef":` + q.ref
		}
		fmt.Fprintf(&text, "\n# %s\ncurl -s %s/authorize -H 'content-type: application/json' -H 'authorization: Bearer %s' "+
			"-d '{\"items\":[%s}]}'\n", q.title, strings.TrimRight(url, "/"), token, item)
	}
	_, err := fmt.Fprintln(out, text.String())
	return err
}
