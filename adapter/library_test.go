package adapter_test

import (
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/stagedoor/stagedoor/rego"
)

// withLibrary is a policy about the resource.
var withLibrary = map[string]string{
	".manifest": manifest("", "backstage/authz"),
	"policy.rego": "package backstage.authz\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n" +
		"allow if catalog.is_entity_owner(input.resource, {\"claims\": input.identity.claims})\n",
}

// exported is the rule library as `stagedoor rules export` writes it, with changes.
func exported(t testing.TB, changed map[string]string) string {
	t.Helper()
	files := map[string]string{".manifest": rego.Manifest()}
	for name, text := range rego.Modules() {
		files[name] = text + changed[name]
	}
	return writeBundle(t, files)
}

// builtWith is the bundle that the stock OPA builds of a library and a policy.
func builtWith(t testing.TB, library string, more ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	runOPA(t, t.TempDir(), append([]string{"build", "-b", library, writeBundle(t, withLibrary), "-o", out}, more...)...)
	content, err := os.ReadFile(out)
	check(t, err)
	return content
}

// TestBuiltWithTheLibrary has bundles of the rule library and a policy about the
// resource, made and signed by the stock OPA, come by HTTP and OCI.
func TestBuiltWithTheLibrary(t *testing.T) {
	signer := newSigner(t)
	library := exported(t, nil)
	signed := builtWith(t, library, "--revision", "1", "--signing-key", signer.keyFile, "--signing-alg", "ES256")
	sources := map[string]func(t *testing.T) map[string]any{
		"HTTP": func(t *testing.T) map[string]any {
			server := newBundleServer(t)
			server.put("authz", signed)
			return fromService(map[string]any{"url": server.URL()}, map[string]any{"signing": map[string]any{"keyid": "k", "scope": ""}})
		},
		"OCI": func(t *testing.T) map[string]any {
			server := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0))))
			t.Cleanup(server.Close)
			host := strings.TrimPrefix(server.URL, "http://")
			push(t, host, signed)
			opa := fromService(map[string]any{"url": server.URL, "type": "oci"}, map[string]any{
				"resource": host + "/policies/authz:latest", "signing": map[string]any{"keyid": "k", "scope": ""},
			})
			opa["persistence_directory"] = t.TempDir()
			return opa
		},
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			opa := source(t)
			opa["keys"] = map[string]any{"k": map[string]any{"key": signer.public, "algorithm": "ES256"}}
			site := newSite(t, siteOptions{opa: opa})
			eventually(t, "the policy serves", func() bool { return site.status().Revision == "1" })
			token, err := site.backstage.PluginToken(alice)
			check(t, err)
			status, body := site.post(t, token, `{"items":[{"id":"1","permission":{"type":"resource","name":"catalog.entity.delete",`+
				`"attributes":{},"resourceType":"catalog-entity"}}]}`)
			if status != http.StatusOK || !strings.Contains(body, `"rule":"IS_ENTITY_OWNER"`) {
				t.Errorf("status %d, answer %s", status, body)
			}
		})
	}
}

// TestOtherLibrariesAreRefused has bundles of the stock OPA that cannot be followed,
// and what to do about each.
func TestOtherLibrariesAreRefused(t *testing.T) {
	const other = "backstage/catalog/catalog.rego"
	for name, test := range map[string]struct {
		bundle []byte
		want   string
	}{
		"another version": {builtWith(t, exported(t, map[string]string{other: "\nother := 1\n"})),
			"package backstage.catalog is of the rule library, but not as this version of stagedoor has it: write the library anew"},
		"optimized": {builtWith(t, exported(t, nil), "-O1", "-e", "backstage/authz/allow"), "build it without -O"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newBundleServer(t)
			server.put("authz", test.bundle)
			site := newSite(t, siteOptions{opa: fromService(map[string]any{"url": server.URL()}, nil)})
			eventually(t, "the refusal", func() bool { return strings.Contains(refusalOf(site, "authz"), test.want) })
		})
	}
}
