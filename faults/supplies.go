//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// supplies are the rows in which what stagedoor needs is away for long.
func supplies() []row {
	return []row{
		{name: "bundle server beyond maxAge", what: "two replicas, one restarted from what it persisted", run: beyondMaxAge},
		{name: "disk full", what: "polls, where the bundle cannot be persisted",
			run: func(ctx context.Context, r *rig) ([]figure, error) { return unwritable(ctx, r, r.onFullDisk) }},
		{name: "disk read-only", what: "polls, where the bundle cannot be persisted",
			run: func(ctx context.Context, r *rig) ([]figure, error) { return unwritable(ctx, r, r.onReadOnlyDisk) }},
		{name: "userInfoStale", what: "the auth backend away for a minute, half of it hanging: known users", short: true, run: userInfoStale},
	}
}

// persisting is a configuration with a signed bundle that is persisted in a folder.
func persisting(g *gate, folder string) sections {
	return sections{"opa": merged(bundlesFrom(g), sections{
		"persistence_directory": folder, "bundles": sections{"authz": sections{"persist": true}},
	})}
}

func beyondMaxAge(ctx context.Context, r *rig) ([]figure, error) {
	const maxAge = 2 * time.Second
	s, err := r.newPublisher()
	if err != nil {
		return nil, err
	}
	g, err := r.newGateTo(ctx, s, answers("text/html", ""))
	if err != nil {
		return nil, err
	}
	keys, err := r.keys("k1")
	if err != nil {
		return nil, err
	}
	b, err := r.newBalancer(ctx)
	if err != nil {
		return nil, err
	}
	start := func(n int) (*door, error) {
		more := merged(merged(keys, replica), persisting(g, filepath.Join(r.dir, fmt.Sprint("persisted-", n))))
		return r.ready(ctx, merged(more, sections{"stagedoor": sections{"policy": sections{"maxAge": maxAge.String()}}}))
	}
	var mutex sync.Mutex
	var replicas [2]*door
	for n := range replicas {
		if replicas[n], err = start(n); err != nil {
			return nil, err
		}
	}
	followed, cancel := context.WithCancel(ctx)
	defer cancel()
	b.set(replicas[:]...)
	go b.follow(followed, 500*time.Millisecond, func() []*door {
		mutex.Lock()
		defer mutex.Unlock()
		return replicas[:]
	})
	c, questions := r.client(b.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	for n := range replicas { // what is to be started from
		file := filepath.Join(r.dir, fmt.Sprint("persisted-", n), "bundles", "authz", "bundle.tar.gz")
		if err := replicas[n].until(ctx, "has persisted", func() bool { _, err := os.Stat(file); return err == nil }); err != nil {
			return nil, err
		}
	}
	l := c.startLoad(ctx, questions, 2, 20*time.Millisecond)
	defer l.end()
	if err := g.set(ctx, "refuses"); err != nil {
		return nil, err
	}
	if err := wait(ctx, 2*maxAge); err != nil {
		return nil, err
	}
	if _, err := replicas[0].terminate(45 * time.Second); err != nil {
		return nil, err
	}
	again, err := start(0)
	if err != nil {
		l.end()
		return append(withWhy(l.tally), figure{what: "the restarted one is ready", got: err.Error(), want: "true"}), nil
	}
	mutex.Lock()
	replicas[0] = again
	mutex.Unlock()
	if err := wait(ctx, max(r.duration, 2*maxAge)); err != nil {
		return nil, err
	}
	figures := []figure{}
	for n, d := range replicas {
		confirmed, err := d.metric(ctx, "stagedoor_policy_confirmed_timestamp_seconds", "")
		if err != nil {
			return nil, err
		}
		age := time.Since(time.Unix(int64(confirmed), 0))
		figures = append(figures, figure{what: fmt.Sprintf("metric: replica %d last confirmed", n+1),
			got: fmt.Sprintf("%.0f s ago", age.Seconds()), want: "> maxAge, to alert on", ok: confirmed > 0 && age > maxAge})
		stale, err := d.metric(ctx, "stagedoor_degraded", `part="updates"`)
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{what: fmt.Sprintf("metric: updates of replica %d are degraded", n+1),
			got: fmt.Sprint(stale), want: "1", ok: stale == 1})
		ready := d.isReady(ctx)
		figures = append(figures, figure{what: fmt.Sprintf("replica %d is ready", n+1), got: strconv.FormatBool(ready), want: "true", ok: ready})
	}
	if err := g.set(ctx, ""); err != nil {
		return nil, err
	}
	if err := s.publish("2"); err != nil {
		return nil, err
	}
	took, err := newRevisionServes(ctx, r, c)
	l.end()
	return append(append(withWhy(l.tally), figures...), figure{what: "then the next revision serves after",
		got: fmt.Sprintf("%.1f s", took.Seconds()), want: "≤ 15 s", ok: err == nil}), nil
}

// onFullDisk runs a stagedoor whose folder is on a file system that is full, in a name
// space of its own, in which such a one can be mounted.
func (r *rig) onFullDisk(folder, config string) (*exec.Cmd, error) {
	const script = `mount -t tmpfs -o size=16k faults "$0" || exit 1
head -c 1000000 /dev/zero > "$0/full" 2>/dev/null
exec "$1" serve --config "$2"`
	unshare := []string{"--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(unshare, "mount", "-t", "tmpfs", "faults", folder)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return exec.Command("unshare", append(unshare, "sh", "-c", script, folder, r.binary, config)...), nil
}

// onReadOnlyDisk runs a stagedoor that may not write into its folder. Root may always, so
// it becomes nobody.
func (r *rig) onReadOnlyDisk(folder, config string) (*exec.Cmd, error) {
	const nobody = 65534
	command := exec.Command(r.binary, "serve", "--config", config)
	if os.Getuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return command, os.Chmod(folder, 0o555)
}

// unwritable polls often where nothing can be persisted.
func unwritable(ctx context.Context, r *rig, on func(folder, config string) (*exec.Cmd, error)) ([]figure, error) {
	polls := 20
	if r.short {
		polls = 6
	}
	s, err := r.newPublisher()
	if err != nil {
		return nil, err
	}
	g, err := r.newGateTo(ctx, s, answers("text/html", ""))
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(r.dir, "persisted")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	file, err := r.configure(persisting(g, folder))
	if err != nil {
		return nil, err
	}
	command, err := on(folder, file)
	if err != nil {
		return nil, fmt.Errorf("such a disk cannot be made here: %w", err)
	}
	d, err := r.serve(ctx, command)
	if err != nil {
		return nil, err
	}
	c, questions := r.client(d.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	before, err := d.allSeries(ctx)
	if err != nil {
		return nil, err
	}
	l := c.startLoad(ctx, questions, 1, 50*time.Millisecond)
	defer l.end()
	if err := wait(ctx, time.Duration(polls)*1100*time.Millisecond); err != nil {
		return nil, err
	}
	after, err := d.allSeries(ctx)
	if err != nil {
		return nil, err
	}
	l.end()
	log, err := os.ReadFile(d.log)
	if err != nil {
		return nil, err
	}
	var added strings.Builder
	for name := range after {
		if !before[name] {
			added.WriteString("\n    " + name)
		}
	}
	active, series := bytes.Count(log, []byte(`"policy is active"`)), policySeries(after)-policySeries(before)
	said := bytes.Contains(log, []byte("persist"))
	took, err := newRevision(ctx, r, g, c)
	return append(withWhy(l.tally),
		figure{what: fmt.Sprintf("activations in %d polls", polls), got: strconv.Itoa(active), want: "1", ok: active == 1},
		figure{what: "metric series more", got: strconv.Itoa(series) + added.String(), want: "0", ok: series == 0},
		figure{what: "the log says that it was not persisted", got: strconv.FormatBool(said), want: "true", ok: said},
		figure{what: "the next revision serves after", got: fmt.Sprintf("%.1f s", took.Seconds()), want: "≤ 15 s", ok: err == nil},
	), nil
}

// allSeries are the names of all series of metrics, with their labels.
func (d *door) allSeries(ctx context.Context) (at map[string]bool, err error) {
	_, text, err := fetch(ctx, d.Admin+"/metrics")
	at = map[string]bool{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			at[line[:i]] = true
		}
	}
	return at, err
}

// policySeries are how many there are of the policy and its supply: those of requests
// depend on what is asked.
func policySeries(all map[string]bool) (n int) {
	for name := range all {
		if strings.HasPrefix(name, "stagedoor_policy") || strings.Contains(name, "bundle") {
			n++
		}
	}
	return n
}

// newRevisionServes is over when the second revision serves.
func newRevisionServes(ctx context.Context, r *rig, c *client) (time.Duration, error) {
	return c.recovers(ctx, &question{
		name: "the next revision", bearer: onBehalf(r.backstage, alice), body: basic("revision.2"), results: []string{`"ALLOW"`},
	}, recoverWithin)
}

// userInfoStale has the auth backend away, where what was known of users may count on.
func userInfoStale(ctx context.Context, r *rig) ([]figure, error) {
	away := time.Minute
	if r.short {
		away = 8 * time.Second // longer than user info counts
	}
	g, more, err := behindGate("auth", "")(ctx, r)
	if err != nil {
		return nil, err
	}
	d, err := r.ready(ctx, merged(more, sections{"stagedoor": sections{"identity": sections{"userInfoStale": "5m"}}}))
	if err != nil {
		return nil, err
	}
	c := r.client(d.address)
	var known []*question
	for _, q := range r.askWell() {
		if !strings.Contains(q.name, "stranger") {
			known = append(known, q)
		}
	}
	if err := c.first(ctx, known); err != nil {
		return nil, err
	}
	l := c.startLoad(ctx, known, 2, 20*time.Millisecond)
	defer l.end()
	for _, fault := range []string{"refuses", "hangs"} {
		if err := g.set(ctx, fault); err != nil {
			return nil, err
		}
		if err := wait(ctx, away/2); err != nil {
			return nil, err
		}
	}
	stale, err := d.metric(ctx, "stagedoor_identity_user_info_stale_total", "")
	if err != nil {
		return nil, err
	}
	if err := g.set(ctx, ""); err != nil {
		return nil, err
	}
	_ = wait(ctx, time.Second)
	l.end()
	return append(withWhy(l.tally),
		figure{what: "decided by stale user info", got: fmt.Sprintf("%.0f", stale), want: "some", ok: stale > 0},
		atMost("slowest", l.percentile(100), r.patience(2500*time.Millisecond)),
	), nil
}
