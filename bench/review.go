//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// reviewed is what a command of review took.
type reviewed struct {
	Name string        `json:"name"`
	Wall time.Duration `json:"wall_ns"`
	CPU  time.Duration `json:"cpu_ns"`
	Peak int64         `json:"peak_bytes"`
	Want time.Duration `json:"want_ns"`
	Said string        `json:"said"`
}

// reviewAtScale measures diff, matrix and replay for a company of 5,000 people.
func reviewAtScale(ctx context.Context, b *bench) error {
	const people, entities, rules, events, oneIn = 5_000, 10_000, 60, 1_000_000, 10_007
	binary, err := b.build(ctx, b.root, "stagedoor", "./cmd/stagedoor")
	if err != nil {
		return err
	}
	m := newMachine(ctx, b)
	at := func(name string) string { return filepath.Join(b.dir, name) }
	c := newCompany(people, entities)
	var found planted
	for _, write := range []func() error{
		func() error { return c.writeInventory(at("people"), false) },
		func() error { return c.writeInventory(at("catalog"), true) },
		func() error { return c.writeRBAC(b.root, at("rbac"), at("rbac-new")) },
		func() error { return c.writeResource(rules, at("resource"), at("resource-new")) },
		func() error { return writePolicy(at("office"), []string{"office"}, office, []byte("{}")) },
		func() (err error) { found, err = c.writeLog(at("log.gz"), at("people"), events, oneIn); return err },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	var all []reviewed
	for _, of := range []struct {
		want time.Duration
		args string
	}{
		{10 * time.Second, "diff rbac rbac-new --inventory people"},
		{5 * time.Second, "matrix rbac --inventory people --format json"},
		{60 * time.Second, "diff rbac rbac-new --inventory catalog"},
		{10 * time.Second, "diff resource resource-new --inventory people"},
		{5 * time.Second, "matrix resource --inventory people --format json"},
		{60 * time.Second, "diff resource resource-new --inventory catalog"},
		{60 * time.Second, "replay log.gz --policy office --inventory people --format json"},
	} {
		r, out, err := review(ctx, b.dir, binary, of.args)
		if err != nil {
			return err
		}
		r.Want = of.want
		if strings.HasPrefix(of.args, "replay") {
			if err := found.check(out); err != nil {
				return err
			}
		}
		all = append(all, r)
		fmt.Fprintf(os.Stderr, "%s: %v, %v CPU, %d MB\n", r.Name, r.Wall, r.CPU, r.Peak>>20)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n%d people, 74 permissions, %d bindings, %d rules, %d entities, %d events. Memory is to be under 500 MB.\n\n"+
		"| command | s | wanted s | CPU s | peak MB | said |\n| --- | ---: | ---: | ---: | ---: | --- |\n",
		m, people, c.bindings, rules, entities, events)
	for _, r := range all {
		fmt.Fprintf(&text, "| %s | %.1f | %.0f | %.1f | %d | %s |\n", r.Name, r.Wall.Seconds(), r.Want.Seconds(), r.CPU.Seconds(),
			r.Peak>>20, r.Said)
	}
	return b.publish("review", text.String(), map[string]any{"machine": m, "commands": all})
}

// review runs a command in a directory. That it has findings is no error.
func review(ctx context.Context, dir, binary, args string) (reviewed, []byte, error) {
	cmd := exec.CommandContext(ctx, binary, strings.Fields(args)...)
	var out, failed bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &failed
	begin := time.Now()
	err := cmd.Run()
	r := reviewed{Name: args, Wall: time.Since(begin)}
	if exited, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exited.ExitCode() != 1) {
		return r, nil, fmt.Errorf("%s: %w\n%s", args, err, failed.Bytes())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return r, nil, errors.New("the system does not tell what a process used")
	}
	r.CPU, r.Peak = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), usage.Maxrss<<10
	lines := strings.Split(out.String(), "\n")
	if at := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, " in ") && strings.HasSuffix(line, "questions") }); at >= 0 {
		r.Said = lines[at]
	}
	if at := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "all 5,000 people") }); at >= 0 {
		_, said, _ := strings.Cut(lines[at], "people, ")
		r.Said = strings.TrimPrefix(r.Said+"; "+said, "; ")
	}
	return r, out.Bytes(), nil
}

// check holds what replay told to what was planted.
func (p planted) check(out []byte) error {
	var told struct {
		Summary struct{ Wider, Narrower, Other, Breaks, Undecided int }
	}
	if err := json.Unmarshal(out, &told); err != nil {
		return err
	}
	if s := told.Summary; s.Wider != p.Wider || s.Narrower != p.Narrower || s.Other+s.Breaks+s.Undecided > 0 {
		return fmt.Errorf("replay told %+v; planted were %+v", s, p)
	}
	return nil
}
