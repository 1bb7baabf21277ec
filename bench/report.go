//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine is where and when it was measured.
type machine struct {
	Date     string `json:"date"`
	Revision string `json:"revision"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Go       string `json:"go"`
	// Load is the load average of the last minute at the start, besides us.
	Load string `json:"load"`
}

func newMachine(ctx context.Context, b *bench) machine {
	m := machine{Date: time.Now().Format(time.DateOnly), Cores: runtime.NumCPU(), Go: runtime.Version()}
	m.Revision, _ = output(ctx, b.root, "git", "describe", "--always", "--dirty", "--abbrev=12")
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			m.CPU = strings.Trim(name, "\t :\n")
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	m.Load, _, _ = strings.Cut(string(load), " ")
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("Measured on %s at %s: %d cores (%s), %s, load average %s at the start.",
		m.Date, m.Revision, m.Cores, m.CPU, m.Go, m.Load)
}

// report is everything that was measured.
type report struct {
	Machine  machine   `json:"machine"`
	Round    string    `json:"round"`
	Rounds   int       `json:"rounds"`
	Outcomes []outcome `json:"outcomes"`

	bench *bench
}

func newReport(ctx context.Context, b *bench) *report {
	return &report{Machine: newMachine(ctx, b), Round: b.round.String(), Rounds: b.rounds, bench: b}
}

func (r *report) write() error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s Median of %d rounds of %s.\n", r.Machine, r.Rounds, r.Round)
	last := ""
	for _, o := range r.Outcomes {
		if title := fmt.Sprintf("\n### %s, %d users\n\n", o.Scenario, o.Users); title != last {
			last = title
			text.WriteString(title + head)
		}
		o.rows(&text)
	}
	if r.bench.compare == "" {
		text.WriteString("\n### Against the targets\n\n")
		r.goals(&text)
	}
	return r.bench.publish("neighbours", text.String(), r)
}

const head = "| connections | target | requests/s | p50 ms | p99 ms | CPU µs | allocations | RSS MB | calls | " +
	"× throughput | × p99 | × CPU |\n" +
	"| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"

// The fields that are printed.
var (
	throughput = func(m measured) float64 { return m.Throughput }
	p50        = func(m measured) float64 { return m.P50.Seconds() * 1e3 }
	p99        = func(m measured) float64 { return m.P99.Seconds() * 1e3 }
	cpu        = func(m measured) float64 { return m.CPU.Seconds() * 1e6 }
	objects    = func(m measured) float64 { return m.Allocations }
	rss        = func(m measured) float64 { return float64(m.RSS) / 1e6 }
	calls      = func(m measured) float64 { return m.Calls }
)

// rows writes a row for each target. The last columns are stagedoor's figures as
// multiples of that target's.
func (o outcome) rows(w io.Writer) {
	own := o.Series[0]
	for _, s := range o.Series {
		fmt.Fprintf(w, "| %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", o.Connections, s.Target,
			figure(s.median(throughput)), figure(s.median(p50)), figure(s.median(p99)), figure(s.median(cpu)),
			figure(s.median(objects)), figure(s.median(rss)), figure(s.median(calls)),
			figure(ratio(own, s, throughput)), figure(ratio(own, s, p99)), figure(ratio(own, s, cpu)))
	}
}

// figure writes three digits that count.
func figure(f float64) string {
	switch {
	case f == 0:
		return ""
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// goal is what a ratio must come to.
type goal struct {
	scenario    string
	users       int // 0 for any number
	connections []int
	what        string
	field       func(measured) float64
	against     string
	least, most float64 // of which one is 0
}

// goals are those of this project, for the machine that it is measured on.
var goals = []goal{
	{"one", 50, []int{16, 64}, "throughput", throughput, nameFloor, 0.85, 0},
	{"one", 50, []int{16, 64}, "throughput", throughput, nameReference, 15, 0},
	{"one", 50, []int{16}, "p99", p99, nameFloor, 0, 1.3},
	{"fifty", 0, []int{1, 16, 64}, "throughput", throughput, nameFloor, 1, 0},
	{"fifty", 0, []int{1, 16, 64}, "throughput", throughput, nameReference, 100, 0},
	{"fifty", 0, []int{1, 16, 64}, "throughput", throughput, nameOPA, 8, 0},
	{"refs", 0, []int{1, 16, 64}, "throughput", throughput, nameReference, 20, 0},
	{"one-clock", 0, []int{1, 16, 64}, "throughput", throughput, nameFloor, 0.6, 0},
}

func (r *report) goals(w io.Writer) {
	fmt.Fprint(w, "| scenario | users | connections | stagedoor's | against | want | have | |\n"+
		"| --- | ---: | ---: | --- | --- | ---: | ---: | --- |\n")
	for _, g := range goals {
		for _, o := range r.Outcomes {
			if o.Scenario == g.scenario && (g.users == 0 || o.Users == g.users) {
				g.row(w, o)
			}
		}
	}
}

func (g goal) row(w io.Writer, o outcome) {
	other, ok := o.named(g.against)
	asked := false
	for _, c := range g.connections {
		asked = asked || c == o.Connections
	}
	if !ok || !asked {
		return
	}
	have := ratio(o.Series[0], other, g.field)
	want, met := fmt.Sprintf("≥ %g", g.least), have >= g.least
	if g.most > 0 {
		want, met = fmt.Sprintf("≤ %g", g.most), have <= g.most
	}
	verdict := "missed"
	if met {
		verdict = "met"
	}
	fmt.Fprintf(w, "| %s | %d | %d | %s | %s | %s | %s | %s |\n", g.scenario, o.Users, o.Connections, g.what, g.against, want, figure(have), verdict)
}

// publish prints what was measured and keeps it where -out says.
func (b *bench) publish(name, text string, all any) error {
	fmt.Println(text)
	if b.out == "" {
		return nil
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, name+".json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, name+".md"), []byte(text), 0o644)
}
