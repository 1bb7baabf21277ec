package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
)

// limitMemory tells the runtime how much memory there is, where the control group says
// so and the environment (GOMEMLIMIT) does not: it then collects garbage in time rather
// than be killed. A tenth is left for what the runtime does not count.
func limitMemory(log *logrus.Entry) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := cgroupLimit(os.DirFS("/")); limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
		log.WithField("bytes", limit/10*9).
			Info("the memory limit is nine tenths of the control group's; GOMEMLIMIT overrides it")
	}
}

// budget is how many bytes the bodies and answers of requests may take: what is
// configured, or else a quarter of the memory limit, or where there is none 256 MiB.
func budget(configured int64) int64 {
	const usual = 256 << 20
	limit := debug.SetMemoryLimit(-1)
	switch {
	case configured > 0:
		return configured
	case limit == math.MaxInt64:
		return usual
	}
	return min(limit/4, usual)
}

// cgroupLimit is the least memory limit of the process's control group and those above
// it, in bytes, or 0 where there is none (cgroups(7), versions 2 and 1). Beyond memory.high
// the kernel slows a process down, so that is a limit, too.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for lines := bufio.NewScanner(bytes.NewReader(groups)); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		under, files := "sys/fs/cgroup", []string{"memory.max", "memory.high"}
		switch {
		case fields[0] == "0" && fields[1] == "":
		case strings.Contains(","+fields[1]+",", ",memory,"):
			under, files = "sys/fs/cgroup/memory", []string{"memory.limit_in_bytes"}
		default:
			continue
		}
		// In a container the group may be seen from outside: then its own is the root.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			for _, file := range files {
				text, _ := fs.ReadFile(root, path.Join(under, group, file))
				if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
					least = min(least, limit)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	if least >= math.MaxInt64>>1 { // version 1 writes a huge number for none
		return 0
	}
	return least
}
