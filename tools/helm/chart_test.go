// Package helm holds the chart of deploy/helm to helm itself and to Kubernetes'
// own schemas. It is a module of its own, so that helm stays out of the product.
package helm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const chart = "../../deploy/helm/stagedoor"

// helm runs helm of this module and returns what it printed.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "helm"}, args...)...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// TestChartIsValid lints and renders the chart with each of its example values, and
// asks Kubernetes' schemas about what comes out.
func TestChartIsValid(t *testing.T) {
	examples, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(examples) < 4 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	for _, values := range examples {
		t.Run(filepath.Base(values), func(t *testing.T) {
			if text, err := helm(t, "lint", "--strict", "-f", values, chart); err != nil {
				t.Fatalf("helm lint: %v\n%s", err, text)
			}
			text, err := helm(t, "template", "door", "-f", values, chart)
			if err != nil {
				t.Fatalf("helm template: %v\n%s", err, text)
			}
			validate(t, text)
		})
	}
}

// TestInstallLine runs what docs/operate/README.md installs the chart by, but for the
// cluster: helm template takes the same values as helm upgrade does.
func TestInstallLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sh chart\n")
	block, _, _ = strings.Cut(block, "```")
	ran := 0
	for line := range strings.Lines(block) {
		line = strings.NewReplacer("upgrade --install", "template", "values.yaml", chart+"/ci/central-values.yaml",
			"deploy/helm/stagedoor", chart).Replace(line)
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if text, err := helm(t, args[1:]...); args[0] != "helm" || err != nil {
			t.Errorf("%s: %v\n%s", line, err, text)
		}
		ran++
	}
	if ran != 2 {
		t.Errorf("%d lines ran", ran)
	}
}

// TestKeysAndTokens has both keys of a change in the configuration, and the token from a
// variable that the pod has from a Secret.
func TestKeysAndTokens(t *testing.T) {
	text, err := helm(t, "template", "door", "-f", chart+"/ci/rotating-values.yaml", chart)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, text)
	}
	for part, want := range map[string]int{
		"keyId: k1": 1, "keyId: k2": 1, "/etc/stagedoor/keys/private-2.pem": 1, "token: ${OPERATOR_TOKEN}": 1,
		"name: stagedoor-operators": 1, "name: GOMEMLIMIT": 1,
	} {
		if got := strings.Count(text, part); got != want {
			t.Errorf("%q is there %d times:\n%s", part, got, text)
		}
	}
	if strings.Index(text, "keyId: k1") > strings.Index(text, "keyId: k2") {
		t.Error("the new key signs already")
	}
}

// validate asks kubectl-validate about rendered manifests. A ServiceMonitor is not
// Kubernetes' own: the test says what it must have instead.
func validate(t *testing.T, rendered string) {
	t.Helper()
	dir := t.TempDir()
	kinds := 0
	for i, document := range strings.Split(rendered, "\n---\n") {
		if !strings.Contains(document, "\nkind: ") {
			continue
		}
		kinds++
		if strings.Contains(document, "kind: ServiceMonitor") {
			for _, part := range []string{"port: admin", "path: /metrics", "app.kubernetes.io/instance: door", "release: prometheus"} {
				if !strings.Contains(document, part) {
					t.Errorf("the ServiceMonitor has no %q:\n%s", part, document)
				}
			}
			continue
		}
		file := filepath.Join(dir, string(rune('a'+i))+".yaml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if kinds == 0 {
		t.Fatalf("nothing was rendered:\n%s", rendered)
	}
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../kubectl-validate/go.mod", "kubectl-validate", dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("kubectl-validate: %v\n%s\n%s", err, text, rendered)
	}
}

// TestBadValuesAreRefused changes one value of a good example at a time. Each would
// make a stagedoor that does not start, or that some requests are refused by.
func TestBadValuesAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ set, says string }{
		"no place of Backstage":        {"backstage.baseUrl=", "baseUrl"},
		"a path in the base URL":       {"backstage.baseUrl=http://backstage:7007/api", "baseUrl"},
		"replicas without a key":       {"keys.secret=", "2 replicas need the same key: name a Secret in keys.secret"},
		"growth without a key":         {"keys.secret=,autoscaling.minReplicas=1", "autoscaling makes more replicas"},
		"two sources of the policy":    {"policy.http.url=https://b.example.com,policy.http.resource=b.tar.gz", "policy.oci and policy.http are sources"},
		"half of a source":             {"policy.oci.image=null", "image"},
		"an unknown key":               {"replicas=2", "replicas"},
		"an unknown key of the config": {"config.stagdoor.log.level=warn", "stagdoor"},
		"a moved address":              {"config.stagedoor.listen=0.0.0.0:80", "write service.port instead"},
		"a tag that moves":             {"image.tag=latest", "tag"},
		"no limit of memory":           {"resources.limits.memory=null", "memory"},
		"a privileged port":            {"service.port=80", "port"},
		"the same port twice":          {"service.port=7009", "service.adminPort"},
		"no time to stop":              {"shutdownDelaySeconds=60", "terminationGracePeriodSeconds"},
		"fewer at most than at least":  {"autoscaling.maxReplicas=1", "minReplicas"},
		"an entrypoint with dots":      {"policy.entrypoint=data.shop.allow", "entrypoint"},
		"a mode that is none":          {"mode=daemon", "mode"},
		"probes that reach nobody":     {"config.stagedoor.admin.listen=127.0.0.1:7009", "admin"},
		"probes without TLS":           {"config.stagedoor.admin.tls.certFile=a.pem", "admin"},
		"a key that stagedoor has not": {"config.stagedoor.limit.body=1MiB", "limit"},
		"another delay":                {"config.backend.lifecycle.serverShutdownDelay=60s", "write shutdownDelaySeconds instead"},
		"another Backstage":            {"config.backend.baseUrl=http://elsewhere:7007", "write backstage.baseUrl instead"},
		"a misspelt base URL":          {"config.backend.baseURL=http://elsewhere:7007", "'baseURL' not allowed"},
		"a level that is none":         {"config.stagedoor.log.level=loud", "/config/stagedoor/log/level"},
		"a misspelt key deep inside":   {"config.stagedoor.policy.maxAg=1h", "'maxAg' not allowed"},
		"no slots":                     {"config.stagedoor.limits.inFlight=-1", "/config/stagedoor/limits/inFlight"},
		"a size without a number":      {"config.stagedoor.limits.body=many", "/config/stagedoor/limits/body"},
		"a duration without a unit":    {"config.stagedoor.limits.decision=5", "/config/stagedoor/limits/decision"},
		"a switch that is neither":     {"config.stagedoor.audit.required=maybe", "/config/stagedoor/audit/required"},
		"a token that can be guessed":  {"config.stagedoor.admin.token=short", "/config/stagedoor/admin/token"},
		"services that are a number":   {"config.opa.services=1", "/config/opa/services"},
		"a service without a URL":      {"config.opa.services.log.type=oci", "url"},
		"memory for nothing":           {"resources.limits.memory=32Mi", "/resources/limits/memory"},
		"memory in bytes":              {"resources.limits.memory=512k", "memory"},
		"a budget that keeps all":      {"podDisruptionBudget.minAvailable=2", "drained"},
		"a budget of none":             {"podDisruptionBudget.minAvailable=0", "minAvailable"},
		"a token for nobody":           {"policy.oci=null", "policy.tokenSecret is for policy.oci or policy.http"},
		"a size that is none":          {"persistence.sizeLimit=lots", "sizeLimit"},
		"an interval without a unit":   {"serviceMonitor.interval=30", "interval"},
		"half of a digest":             {"image.digest=sha256:abc", "digest"},
		"a name that cannot be one":    {"keys.secret=Stagedoor_Keys", "secret"},
		"a limit that is another's":    {"env[0].name=GOMEMLIMIT", "env"},
		"an image by its URL":          {"image.repository=https://registry.example.com/stagedoor", "repository"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := helm(t, "template", "door", "-f", chart+"/ci/central-values.yaml", "--set", test.set, chart)
			if err == nil {
				t.Fatalf("--set %s is taken", test.set)
			}
			if !strings.Contains(text, test.says) {
				t.Errorf("--set %s: the error does not name %s:\n%s", test.set, test.says, text)
			}
		})
	}
}
