package simulation

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "build the product with a fault each, which takes minutes")

// plants are faults, each in one line of the product, and what has to notice it.
var plants = map[string]struct{ file, from, to, test, says string }{
	"the memo takes no note of changed data": {
		"adapter/engine/memo.go", "if s.Number <= to {", "if s.Number >= to {", "TestSchedules", "revision",
	},
	"the same, in histories": {
		"adapter/engine/memo.go", "if s.Number <= to {", "if s.Number >= to {", "TestHistories", "not linearizable",
	},
	"user info outlives its time": {
		"adapter/identity/userinfo.go", "return e.Value.left(ttl) })", "return e.Value.left(10 * ttl) })", "TestSchedules", "sets of groups",
	},
	"key sets are older than their refresh": {
		"adapter/identity/keyset/keyset.go", "MaxAge   = 10 * time.Minute", "MaxAge   = 10 * time.Hour", "TestSchedules", "withdrawn (true)",
	},
	"a breaker stays open": {
		"adapter/conditions/guard/guard.go", "Pause    = 2 * time.Second", "Pause    = 10 * time.Minute", "TestSchedules", "not at fault",
	},
}

// TestPlanted wants each planted fault to be noticed.
func TestPlanted(t *testing.T) {
	for name, plant := range plants {
		path, err := filepath.Abs(filepath.Join("..", plant.file))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), plant.from) != 1 {
			t.Errorf("%s: %s has %q not once", name, plant.file, plant.from)
			continue
		}
		if !*planted { // what is built takes long, and where it goes is held all the same
			continue
		}
		t.Run(name, func(t *testing.T) {
			notices(t, path, strings.Replace(string(text), plant.from, plant.to, 1), plant.test, plant.says)
		})
	}
}

// notices builds with another text of a file, and wants a test to fail.
func notices(t *testing.T, path, text, test, says string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: write("planted.go", []byte(text))}})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "test", "-overlay", write("overlay.json", overlay), "-count=1",
		"-run", "^"+test+"$", ".", "-schedules", "5000")
	out, err := command.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("--- FAIL: "+test)) || !bytes.Contains(out, []byte(says)) {
		t.Errorf("not noticed: %v\n%s", err, out)
	}
	t.Logf("%.600s", out)
}
