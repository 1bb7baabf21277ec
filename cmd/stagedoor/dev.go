package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/config"
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
	c, err := config.Load(files, map[string]any{
		"backend":   map[string]any{"baseUrl": backstage.URL},
		"discovery": nil,
	})
	if err != nil {
		return err
	}
	for key, address := range map[string]string{"stagedoor.listen": c.Listen, "stagedoor.admin.listen": c.AdminListen} {
		if !onLoopback(address) {
			return fmt.Errorf("%s: --dev lets anybody be anybody, so it listens on loopback only, not on %s", key, address)
		}
	}
	log := newLog(c.LogLevel)
	log.Warn("--dev: anybody may have a token of anybody; this guards nothing")
	return serve(ctx, c, log, bundles.Dev(), func(s *server) error {
		backstage.Serve(s.URL() + c.BasePath)
		return printRoad(out, s.URL()+c.BasePath, backstage)
	})
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// question is one curl line of the road.
type question struct {
	title, user, item string
}

// printRoad prints a ready curl line for each kind of answer.
func printRoad(out io.Writer, url string, backstage *sample.Backstage) error {
	for _, q := range []question{
		{"ALLOW: somebody signed in reads", "user:default/alice",
			`{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}`},
		{"DENY: nobody said that alice may create", "user:default/alice",
			`{"id":"1","permission":{"type":"basic","name":"todo.create","attributes":{"action":"create"}}}`},
		{"CONDITIONAL: alice may update what fulfils the criteria", "user:default/alice",
			`{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"}}`},
		{"ALLOW and DENY by resourceRef: todo-1 is alice's, todo-2 is not, and the plugin says so", "user:default/alice",
			`{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},"resourceType":"todo-item"},"resourceRef":["todo-1","todo-2"]}`},
	} {
		token, err := backstage.PluginToken(q.user)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n# %s\ncurl -s %s/authorize -H 'content-type: application/json' -H 'authorization: Bearer %s' -d '{\"items\":[%s]}'\n",
			q.title, strings.TrimRight(url, "/"), token, q.item)
	}
	fmt.Fprintln(out)
	return nil
}
