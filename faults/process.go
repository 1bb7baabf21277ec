//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// rig is what one row has: a Backstage, and what it starts beside it. All of it ends
// with the row.
type rig struct {
	*house
	name      string
	dir       string
	address   string // at which stagedoor is to serve
	backstage *sample.Backstage
	started   atomic.Int64
	stop      []func() // in reverse
}

// newRig starts a Backstage. Its plugins verify stagedoor's calls by the keys at the
// rig's address.
func (h *house) newRig(ctx context.Context, name string) (*rig, error) {
	r := &rig{house: h, name: name, dir: filepath.Join(h.dir, name)}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if r.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if r.backstage, err = sample.New(ctx); err != nil {
		return nil, err
	}
	r.later(r.backstage.Close)
	r.backstage.Serve("http://" + r.address + "/api/permission")
	return r, nil
}

// later has f done when the row ends, however it does.
func (r *rig) later(f func()) { r.stop = append(r.stop, f) }

func (r *rig) close() {
	for n := len(r.stop) - 1; n >= 0; n-- {
		r.stop[n]()
	}
}

// sections is a part of a configuration.
type sections = map[string]any

// merged returns the sections with others put over them, object by object.
func merged(under, over sections) sections {
	all := maps.Clone(under)
	for key, value := range over {
		a, isObject := all[key].(sections)
		b, are := value.(sections)
		if isObject && are {
			all[key] = merged(a, b)
			continue
		}
		all[key] = value
	}
	return all
}

// configure writes a configuration, and returns its file.
func (r *rig) configure(more sections) (string, error) {
	text, err := json.Marshal(merged(sections{
		"backend": sections{"baseUrl": r.backstage.URL, "lifecycle": sections{"serverShutdownDelay": "0s"}},
		"stagedoor": sections{
			"listen": r.address, "admin": sections{"listen": "127.0.0.1:0"},
			// Rows are over sooner.
			"conditions": sections{"timeout": "1s"},
		},
	}, more)) // which is YAML
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.dir, fmt.Sprintf("stagedoor-%d.yaml", r.started.Add(1)))
	return file, os.WriteFile(file, text, 0o644)
}

// door is a stagedoor that runs.
type door struct {
	*process
	URL, Admin string
	address    string
}

// launch starts stagedoor with a configuration, and waits until it serves.
func (r *rig) launch(ctx context.Context, more sections) (*door, error) {
	file, err := r.configure(more)
	if err != nil {
		return nil, err
	}
	return r.serve(ctx, exec.Command(r.binary, "serve", "--config", file))
}

// serve starts a command that is a stagedoor, and waits until it serves.
func (r *rig) serve(ctx context.Context, command *exec.Cmd) (*door, error) {
	p, err := r.start("stagedoor", command)
	if err != nil {
		return nil, err
	}
	d := &door{process: p}
	err = p.until(ctx, "serves", func() bool {
		text, _ := os.ReadFile(p.log)
		for line := range strings.Lines(string(text)) {
			var at struct{ Msg, URL, Admin string }
			if json.Unmarshal([]byte(line), &at) == nil && at.Msg == "serving" {
				d.URL, d.Admin = at.URL, at.Admin
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(d.URL)
	if err != nil {
		return nil, err
	}
	d.address = at.Host
	return d, nil
}

// ready launches stagedoor and waits until it is ready.
func (r *rig) ready(ctx context.Context, more sections) (*door, error) {
	d, err := r.launch(ctx, more)
	if err != nil {
		return nil, err
	}
	err = d.until(ctx, "is ready", func() bool { return d.isReady(ctx) })
	return d, err
}

func (d *door) isReady(ctx context.Context) bool {
	status, _, err := fetch(ctx, d.Admin+"/ready")
	return err == nil && status == http.StatusOK
}

// metric is the sum of a metric's series whose labels contain a text.
func (d *door) metric(ctx context.Context, name, labels string) (sum float64, err error) {
	_, text, err := fetch(ctx, d.Admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' || !strings.Contains(rest, labels) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// process is a program that was started for a row.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string        // the file of its error output
	ended chan struct{} // closed when it has
}

// start starts a program, which ends with the row at the latest. What it writes to
// standard error is in a file, unless the command says otherwise.
func (r *rig) start(name string, command *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: command, ended: make(chan struct{})}
	p.log = filepath.Join(r.dir, fmt.Sprintf("%s-%d.log", name, r.started.Add(1)))
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if command.Stderr == nil {
		command.Stderr = log
	}
	if command.Stdout == nil {
		command.Stdout = log
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = command.Wait()
		close(p.ended)
	}()
	r.later(p.kill)
	return p, nil
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// terminate asks the process to end, and returns how long that took, or an error where
// it does not end in time or ends with another status than 0.
func (p *process) terminate(within time.Duration) (time.Duration, error) {
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-p.ended:
	case <-time.After(within):
		p.kill()
		return time.Since(begun), fmt.Errorf("%s does not end", p.name)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return time.Since(begun), fmt.Errorf("%s ended with status %d:\n%s", p.name, code, p.tail())
	}
	return time.Since(begun), nil
}

func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-2000):])
}

// until tries again and again until try reports true, the process has ended, or
// patience has.
func (p *process) until(ctx context.Context, what string, try func() bool) error {
	const patience, pause = time.Minute, 2 * time.Millisecond
	for begun := time.Now(); !try(); time.Sleep(pause) {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it %s:\n%s", p.name, what, p.tail())
		default:
		}
		if ctx.Err() != nil || time.Since(begun) > patience {
			return fmt.Errorf("%s: no sign that it %s:\n%s", p.name, what, p.tail())
		}
	}
	return nil
}

// resident is the resident memory of the process in bytes, and the most that it was.
func (p *process) resident() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			now = kilobytes << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); n == 1 {
			peak = kilobytes << 10
		}
	}
	return now, peak, nil
}

// freeAddress is one at which nobody listens now.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// fetch gets a body within a few seconds.
func fetch(ctx context.Context, from string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// output runs a command and returns what it prints, without the line's end.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// wait pauses, or less where ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

var errNotThere = errors.New("it did not come to be")
