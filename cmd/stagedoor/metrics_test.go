package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// metricName is a metric as the documentation writes it, and its name alone.
var metricName = regexp.MustCompile("`((?:stagedoor|bundle|last_success|decision_logs|go|process)_[a-z0-9_]+)(?:\\{[a-z_, ]*\\})?`")

// expressionMetric is a metric in an expression of an alert or of the dashboard.
var expressionMetric = regexp.MustCompile(`\b(?:stagedoor|decision_logs|process)_[a-z0-9_]+_[a-z0-9_]+`)

// TestDocsNameMetricsThatThereAre holds every metric that a page, an alert or the
// dashboard names to what the binary tells, once all of it has happened that makes one.
func TestDocsNameMetricsThatThereAre(t *testing.T) {
	named := map[string]string{}
	for _, file := range []string{"prometheus/stagedoor.rules.yaml", "grafana/stagedoor.json"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", filepath.FromSlash(file)))
		must(t, err)
		for _, name := range expressionMetric.FindAllString(string(text), -1) {
			named[strings.TrimSuffix(name, "_bucket")] = file
		}
	}
	for _, root := range []string{"docs", "deploy", "README.md"} {
		must(t, filepath.WalkDir(filepath.Join("..", "..", root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range metricName.FindAllSubmatch(text, -1) {
				named[string(match[1])] = path
			}
			return err
		}))
	}
	if len(named) < 5 {
		t.Fatalf("only %d metrics are named", len(named))
	}
	told := scraped(t)
	for name, page := range named {
		if !strings.Contains(told, "\n"+name+" ") && !strings.Contains(told, "\n"+name+"{") && !strings.Contains(told, "\n"+name+"_bucket{") {
			t.Errorf("%s names %s, which no scrape has", page, name)
		}
	}
}

// scraped is what the metrics say after bundles came and failed, a plugin was asked,
// and the decision log dropped what it could not take in each way.
func scraped(t *testing.T) string {
	var text strings.Builder
	t.Helper()
	l := newLifecycle(t)
	p := newPublisher(t)
	p.up(t)
	p.put(publish(t, rand.NewChaCha8([32]byte{}), 1))
	down := "http://" + fixture.Address(t)
	candidate := filepath.Join(l.dir, "candidate")
	denyAll(t, candidate)
	for name, opa := range map[string]string{
		"events": fmt.Sprintf(`
opa:
  services: {bundles: {url: "http://%s"}, log: {url: %q}}
  bundles: {authz: {service: bundles, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}
  decision_logs: {service: log, reporting: {buffer_type: event, buffer_size_limit_events: 2, min_delay_seconds: 1, max_delay_seconds: 1}}`, p.address, down),
		"bytes": fmt.Sprintf(`
opa:
  services: {log: {url: %q}}
  decision_logs: {service: log, reporting: {buffer_type: size, buffer_size_limit_bytes: 1, min_delay_seconds: 1, max_delay_seconds: 1}}`, down),
		"encoding": fmt.Sprintf(`
opa:
  services: {log: {url: %q}}
  decision_logs: {service: log, reporting: {upload_size_limit_bytes: 100, min_delay_seconds: 1, max_delay_seconds: 1}}`, down),
	} {
		configuration := l.configure(t, name, "k1", "info", opa)
		if name == "bytes" {
			shadowed(t, configuration, candidate)
		}
		process := l.start(t, configuration)
		tells := func(name string) string {
			for begun := time.Now(); time.Since(begun) < patience; time.Sleep(100 * time.Millisecond) {
				if _, body := process.get(t, "/metrics"); strings.Contains(body, name) {
					return body
				}
			}
			t.Fatalf("no scrape has %s", name)
			return ""
		}
		s := &speaker{address: strings.TrimPrefix(process.URL, "http://")}
		s.address, _, _ = strings.Cut(s.address, "/")
		if name == "events" {
			tells("last_success_bundle_request") // a bundle has come
			p.down()
		}
		for range 20 {
			if status, err := s.ask(l.request); err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable {
				t.Fatalf("%d %v", status, err)
			}
		}
		s.close()
		if name == "bytes" {
			text.WriteString("\n" + tells("stagedoor_shadow_differences_total{"))
		}
		want := map[string]string{"events": "bundle_failed_load_counter", "bytes": "limit_bytes_exceeded_total", "encoding": "encoding_failure_total"}[name]
		text.WriteString("\n" + tells(want))
		process.kill()
	}
	l.certify(t, time.Hour)
	configuration := l.configure(t, "tls", "k1", "info", "")
	written, err := os.ReadFile(configuration)
	must(t, err)
	writeConfig(t, configuration, strings.Replace(string(written), "stagedoor: {", fmt.Sprintf(
		"stagedoor: {tls: {certFile: %q, keyFile: %q}, ", filepath.Join(l.dir, "api.crt"), filepath.Join(l.dir, "api.key")), 1))
	secure := l.start(t, configuration)
	_, body := secure.get(t, "/metrics")
	secure.kill()
	return text.String() + "\n" + body
}

// denyAll writes a policy to the folder that allows nothing.
func denyAll(t *testing.T, folder string) {
	t.Helper()
	fixture.Write(t, folder, fixture.Files{
		".manifest": `{"roots": ["none"]}`, "none.rego": "package none\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n",
	})
}

// shadowed has the configuration name a candidate.
func shadowed(t *testing.T, configuration, candidate string) {
	t.Helper()
	text, err := os.ReadFile(configuration)
	must(t, err)
	writeConfig(t, configuration, strings.Replace(string(text), "\nstagedoor: {",
		fmt.Sprintf("\nstagedoor: {policy: {shadow: {path: %q}}, ", candidate), 1))
}

// TestEachAlertIsInTheRunbook looks for the part of the runbook that an alert names.
func TestEachAlertIsInTheRunbook(t *testing.T) {
	read := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
		must(t, err)
		return string(text)
	}
	runbook := read("docs", "operate", "runbook.md")
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(read("deploy", "prometheus", "stagedoor.rules.yaml"), -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(runbook, "\n## "+alert[1]+"\n") {
			t.Errorf("the runbook has nothing on %s", alert[1])
		}
	}
}
