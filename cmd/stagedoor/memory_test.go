package main

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func TestCgroupLimit(t *testing.T) {
	files := func(pairs ...string) fstest.MapFS {
		root := fstest.MapFS{}
		for n := 0; n < len(pairs); n += 2 {
			root[pairs[n]] = &fstest.MapFile{Data: []byte(pairs[n+1])}
		}
		return root
	}
	for name, test := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"none":      {files(), 0},
		"version 2": {files("proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "1000\n"), 1000},
		"slowed down before": {files("proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max", "1000\n",
			"sys/fs/cgroup/a/memory.high", "800\n"), 800},
		"slowed down alone":   {files("proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max", "max\n", "sys/fs/cgroup/a/memory.high", "800\n"), 800},
		"version 2, no limit": {files("proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max", "max\n"), 0},
		"above": {files("proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "1000\n",
			"sys/fs/cgroup/a/memory.max", "500\n"), 500},
		"seen from outside": {files("proc/self/cgroup", "0::/../../x\n", "sys/fs/cgroup/memory.max", "700\n"), 700},
		"root":              {files("proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max", "800\n"), 800},
		"version 1": {files("proc/self/cgroup", "5:cpu,cpuacct:/a\n9:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "900\n"), 900},
		"version 1, no limit": {files("proc/self/cgroup", "9:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), 0},
		"garbage": {files("proc/self/cgroup", "x\n0::/a\n", "sys/fs/cgroup/a/memory.max", "-5\n"), 0},
	} {
		if got := cgroupLimit(test.root); got != test.want {
			t.Errorf("%s: %d; want %d", name, got, test.want)
		}
	}
}

func TestBudget(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	if got := budget(0); got != 256<<20 {
		t.Errorf("without a limit: %d", got)
	}
	debug.SetMemoryLimit(400 << 20)
	if got := budget(0); got != 100<<20 {
		t.Errorf("of 400 MiB: %d", got)
	}
	if got := budget(7 << 20); got != 7<<20 {
		t.Errorf("configured: %d", got)
	}
	debug.SetMemoryLimit(64 << 30)
	if got := budget(0); got != 256<<20 {
		t.Errorf("of 64 GiB: %d", got)
	}
}
