//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// target is something to be measured.
type target struct {
	name    string
	address string // host:port
	path    string // of authorize; empty for an OPA server, whose path depends on what is asked
	metrics string // URL of Go's metrics; empty where it is not a Go program
	process *process
	pids    []int // whose CPU time and memory count
	calls   bool  // whether it asks plugins
	policy  bool  // whether it has one
}

// names of targets.
const (
	nameStagedoor = "stagedoor"
	nameFloor     = "floor"
	nameOPA       = "OPA server"
	nameReference = "reference + wrapper"
)

// answers reports whether t can be asked this at all: an OPA server asks no plugins.
func (t *target) answers(s scenario) bool { return t.path != "" || s.calls == 0 }

// want is what t must answer: the floor allows everything.
func (t *target) want(s scenario) map[string]int {
	if t.policy {
		return s.results
	}
	return map[string]int{"ALLOW": len(s.items)}
}

// messages are the requests for t.
func (t *target) messages(s scenario, users int, gzip bool) ([]message, error) {
	if t.path == "" {
		return messages(users, t.address, s.path(), false, gzip, s.ask)
	}
	same, err := messages(1, t.address, t.path, true, gzip, s.authorize)
	if err != nil {
		return nil, err
	}
	all := make([]message, users)
	for n := range all {
		all[n] = same[0]
	}
	return all, nil
}

// use adds up what the processes of t have used.
func (t *target) use() (usage, error) {
	var sum usage
	for _, pid := range t.pids {
		u, err := use(pid)
		if err != nil {
			return usage{}, err
		}
		sum.CPU, sum.RSS, sum.Peak = sum.CPU+u.CPU, sum.RSS+u.RSS, sum.Peak+u.Peak
	}
	return sum, nil
}

// allocated is how many objects t has allocated so far, where it can tell.
func (t *target) allocated(ctx context.Context) (float64, error) {
	if t.metrics == "" {
		return 0, nil
	}
	return mallocs(ctx, t.metrics)
}

// startBackstage starts what the targets ask, and returns its URL.
func (b *bench) startBackstage() (string, error) {
	p, err := b.start("backstage", b.self, "backstage", b.dir)
	if err != nil {
		return "", err
	}
	return p.url()
}

func (b *bench) startFloor() (*target, error) {
	p, err := b.start("floor", b.self, "floor", b.dir)
	if err != nil {
		return nil, err
	}
	base, err := p.url()
	if err != nil {
		return nil, err
	}
	return &target{
		name: nameFloor, address: strings.TrimPrefix(base, "http://"), path: "/api/permission/authorize",
		metrics: base + "/metrics", process: p, pids: []int{p.cmd.Process.Pid},
	}, nil
}

// startStagedoor starts a stagedoor binary with the policy in a directory, or with
// the one that it has where that is empty.
func (b *bench) startStagedoor(ctx context.Context, name, binary, backstage, policy string) (*target, error) {
	var c configured
	if policy != "" {
		c.policy = map[string]any{"path": policy}
	}
	return b.startConfigured(ctx, name, binary, backstage, c)
}

// configured is what a configuration says of the policy, of caches, and to OPA.
type configured struct{ policy, caches, opa map[string]any }

// startConfigured does so with that.
func (b *bench) startConfigured(
	ctx context.Context, name, binary, backstage string, c configured,
) (*target, error) {
	stagedoor := map[string]any{"listen": "127.0.0.1:0", "admin": map[string]any{"listen": "127.0.0.1:0"}}
	if c.policy != nil {
		stagedoor["policy"] = c.policy
	}
	if c.caches != nil {
		stagedoor["caches"] = c.caches
	}
	config := map[string]any{
		"backend":   map[string]any{"baseUrl": backstage, "lifecycle": map[string]any{"serverShutdownDelay": "0s"}},
		"stagedoor": stagedoor,
	}
	if c.opa != nil {
		config["opa"] = c.opa
	}
	text, err := json.Marshal(config) // which is YAML
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "stagedoor.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := b.start(name, binary, "serve", "--config", file)
	if err != nil {
		return nil, err
	}
	at, err := p.serving(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.ready(ctx, at.Admin+"/ready"); err != nil {
		return nil, err
	}
	base, err := url.Parse(at.URL)
	if err != nil {
		return nil, err
	}
	return &target{
		name: name, address: base.Host, path: base.Path + "/authorize", metrics: at.Admin + "/metrics",
		process: p, pids: []int{p.cmd.Process.Pid}, calls: true, policy: true,
	}, nil
}

// serving is the line of stagedoor's log that says where it serves.
type serving struct {
	Message string `json:"msg"`
	URL     string `json:"url"`
	Admin   string `json:"admin"`
}

// serving waits for that line.
func (p *process) serving(ctx context.Context) (at serving, err error) {
	err = p.until(ctx, "serves", func() bool {
		text, _ := os.ReadFile(p.log)
		for line := range strings.Lines(string(text)) {
			if json.Unmarshal([]byte(line), &at) == nil && at.Message == "serving" {
				return true
			}
		}
		return false
	})
	return at, err
}

func (b *bench) startOPA(ctx context.Context, binary, policy string) (*target, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.start("opa", binary, "run", "--server", "--addr", address, "--log-level", "error", policy)
	if err != nil {
		return nil, err
	}
	base := "http://" + address
	return &target{
		name: nameOPA, address: address, metrics: base + "/metrics",
		process: p, pids: []int{p.cmd.Process.Pid}, policy: true,
	}, p.ready(ctx, base+"/health")
}

// freeAddress is one at which nobody listens now.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// startReference starts Backstage's own permission backend with the OPA wrapper
// module, by the npm project of e2e/; opa is the server that it asks, whose usage
// counts too. It is nil where Node or the packages are missing.
func (b *bench) startReference(backstage string, opa *target) (*target, error) {
	node, err := exec.LookPath("node")
	project := filepath.Join(b.root, "e2e")
	if _, missing := os.Stat(filepath.Join(project, "node_modules")); err != nil || errors.Is(missing, fs.ErrNotExist) {
		progress("without the reference backend: it takes node, and npm ci in e2e/")
		return nil, nil
	}
	args := []string{filepath.Join(project, "bench", "reference.mjs"), "--opa", "http://" + opa.address}
	for _, plugin := range []string{"auth", askingPlugin, "catalog", "todo"} {
		args = append(args, "--plugin", fmt.Sprintf("%s=%s/api/%s", plugin, backstage, plugin))
	}
	p, err := b.start("reference", node, args...)
	if err != nil {
		return nil, err
	}
	served, err := p.url()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(served)
	if err != nil {
		return nil, err
	}
	children, err := childrenOf(p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return &target{
		name: nameReference, address: base.Host, path: base.Path + "/authorize",
		process: p, pids: append(children, opa.pids...), calls: true, policy: true,
	}, nil
}

// childrenOf returns the processes that a process has started.
func childrenOf(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var children []int
	for field := range strings.FieldsSeq(string(text)) {
		var child int
		if _, err := fmt.Sscan(field, &child); err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	return children, nil
}

// probe asks t by all of the ammunition and looks at the answers. It returns the
// length of every answer that is not compressed.
func (t *target) probe(ctx context.Context, s scenario, a ammunition) (int, error) {
	const ample = 10 * time.Minute
	c, err := dial(t.address, 1)
	if err != nil {
		return 0, err
	}
	defer c.close()
	length := -1
	a.inspect = func(got answer) error {
		body, err := got.body, error(nil)
		if string(got.field("Content-Encoding")) == "gzip" {
			body, err = inflate(body)
		}
		if err == nil && length >= 0 && length != len(body) {
			err = errors.New("answers are not of one length")
		}
		length = len(body)
		return errors.Join(err, s.inspect(body, t.want(s)))
	}
	if _, err := c.fire(ctx, a, ample); err != nil {
		return 0, fmt.Errorf("%s, %s: %w", t.name, s.name, err)
	}
	return length, nil
}

func inflate(body []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
