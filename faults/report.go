//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// outcome is what came of a row.
type outcome struct {
	row     row
	figures []figure
	err     error
	took    time.Duration
}

func (o outcome) ok() bool {
	for _, f := range o.figures {
		if !f.ok {
			return false
		}
	}
	return o.err == nil
}

// judge runs the rows, prints the tables, and returns an error where a row does not show
// what it should. Rows of neighbours run side by side; those that measure time run alone.
func (h *house) judge(ctx context.Context, chosen []row) error {
	outcomes := make([]outcome, len(chosen))
	turns := make(chan struct{}, h.parallel)
	var group sync.WaitGroup
	for n, row := range chosen {
		if row.alone {
			continue
		}
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			outcomes[n] = h.one(ctx, row)
		})
	}
	group.Wait()
	for n, row := range chosen {
		if row.alone {
			outcomes[n] = h.one(ctx, row)
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("%s, %d processors, load average %s\n", time.Now().UTC().Format(time.DateTime), runtime.NumCPU(), strings.TrimSpace(string(load)))
	bad := table(outcomes)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d rows are not as they should be", bad, len(chosen))
	}
	return nil
}

// one runs one row, with all that it starts ended afterwards.
func (h *house) one(ctx context.Context, row row) outcome {
	if ctx.Err() != nil {
		return outcome{row: row, err: ctx.Err()}
	}
	begun := time.Now()
	r, err := h.newRig(ctx, strings.ReplaceAll(row.name, " ", "-"))
	o := outcome{row: row, err: err}
	if err == nil {
		o.figures, o.err = row.run(ctx, r)
		r.close()
	}
	o.took = time.Since(begun)
	state := "as it should be"
	if !o.ok() {
		state = "NOT as it should be"
	}
	progress("%s: %s (%.1f s)", row.name, state, o.took.Seconds())
	return o
}

// table prints what was seen, and returns how many rows are not as they should be.
func table(outcomes []outcome) (bad int) {
	var first, second, why strings.Builder
	for _, o := range outcomes {
		name := o.row.name
		if !o.ok() {
			bad++
			name = "**" + name + "**"
		}
		if o.err != nil {
			fmt.Fprintf(&why, "\n%s: %v\n", o.row.name, o.err)
		}
		if o.row.neighbour && len(o.figures) > 0 {
			recovered, said, _ := strings.Cut(o.figures[5].got, "\n")
			if said != "" {
				fmt.Fprintf(&why, "\n%s:\n%s\n", o.row.name, said)
			}
			fmt.Fprintf(&first, "| %s |", name)
			for _, f := range o.figures[:5] {
				fmt.Fprintf(&first, " %s |", f.got)
			}
			fmt.Fprintf(&first, " %s |\n", recovered)
			continue
		}
		for _, f := range o.figures {
			mark := ""
			if !f.ok {
				mark = " **no**"
			}
			got, said, _ := strings.Cut(f.got, "\n")
			if said != "" {
				fmt.Fprintf(&why, "\n%s:\n%s\n", o.row.name, said)
			}
			fmt.Fprintf(&second, "| %s | %s | %s%s | %s |\n", name, f.what, got, mark, f.want)
		}
		if len(o.figures) == 0 {
			fmt.Fprintf(&second, "| %s | | **failed** | |\n", name)
		}
	}
	if first.Len() > 0 {
		fmt.Printf("\n| neighbour and fault | requests | wrong ALLOW | unlike | errors | errors of others | recovered |\n"+
			"| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n%s", first.String())
	}
	if second.Len() > 0 {
		fmt.Printf("\n| row | what | seen | wanted |\n| --- | --- | ---: | ---: |\n%s", second.String())
	}
	fmt.Print(why.String())
	return bad
}
