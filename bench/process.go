//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that was started for the run.
type process struct {
	name  string
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Reader // of what it prints
	log   string        // the file of its error output
	ended chan struct{} // closed when it has
}

// start starts a program, which ends with the run at the latest.
func (b *bench) start(name, program string, args ...string) (*process, error) {
	p := &process{
		name: name, cmd: exec.Command(program, args...),
		log: filepath.Join(b.dir, name+".log"), ended: make(chan struct{}),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	printed, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr, p.lines = out, log, bufio.NewReader(printed)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	b.later(p.stop)
	return p, nil
}

// url reads the line with which a process says where it serves.
func (p *process) url() (string, error) {
	for {
		line, err := p.lines.ReadString('\n')
		if strings.HasPrefix(line, "http://") {
			return strings.TrimSpace(line), nil
		}
		if err != nil {
			return "", fmt.Errorf("%s ended before it served:\n%s", p.name, p.tail())
		}
	}
}

// stop asks the process to end, and sees to it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-2000):])
}

// until tries again and again until try reports true, the process has ended, or
// patience has.
func (p *process) until(ctx context.Context, what string, try func() bool) error {
	const patience, pause = 2 * time.Minute, time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !try() {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it %s:\n%s", p.name, what, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: no sign that it %s: %w\n%s", p.name, what, ctx.Err(), p.tail())
		case <-time.After(pause):
		}
	}
	return nil
}

// ready waits until a GET of url is answered with 200.
func (p *process) ready(ctx context.Context, url string) error {
	return p.until(ctx, "is ready", func() bool {
		_, err := get(ctx, url)
		return err == nil
	})
}

// usage is what a process has used so far.
type usage struct {
	// CPU is the processor time; Linux counts it in hundredths of a second.
	CPU time.Duration
	// RSS is the resident memory in bytes, and Peak the most that it ever was.
	RSS, Peak int64
}

// use reads the usage of a process from Linux's proc file system (proc(5)).
func use(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name before may hold spaces
	fields := strings.Fields(rest)
	const user, system, perSecond = 11, 12, 100
	if len(fields) <= system {
		return usage{}, errors.New("proc: stat is too short")
	}
	var u usage
	for _, at := range []int{user, system} {
		ticks, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return usage{}, err
		}
		u.CPU += time.Duration(ticks) * time.Second / perSecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			u.RSS = kilobytes << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); n == 1 {
			u.Peak = kilobytes << 10
		}
	}
	return u, nil
}

// get fetches a body.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return string(body), err
}

// mallocs reads from Go's metrics how many objects a process has allocated so far.
func mallocs(ctx context.Context, url string) (float64, error) {
	text, err := get(ctx, url)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no go_memstats_mallocs_total", url)
}
