package adapter_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
)

// allows waits until the revision of the policy allows what it alone allows.
func (s *site) allows(t testing.TB, revision string) {
	t.Helper()
	s.serves(t, revision)
	token, err := s.backstage.PluginToken("user:default/alice")
	check(t, err)
	_, body := s.post(t, token, `{"items":[{"id":"1","permission":{"type":"basic","name":"rev.`+revision+`","attributes":{}}}]}`)
	if body != `{"items":[{"id":"1","result":"ALLOW"}]}` {
		t.Errorf("revision %s answers %s", revision, body)
	}
}

// fromService is OPA's configuration of a bundle that a service has.
func fromService(service, bundle map[string]any) map[string]any {
	source := map[string]any{"service": "s", "resource": "authz", "polling": polling}
	for key, value := range bundle {
		source[key] = value
	}
	return map[string]any{"services": map[string]any{"s": service}, "bundles": map[string]any{"authz": source}}
}

// A bundle that opa build makes and signs is polled, and not sent again where it
// has not changed.
func TestPolling(t *testing.T) {
	server, signer := newBundleServer(t), newSigner(t)
	files := map[string]string{
		".manifest": manifest("", "backstage/authz"),
		"policy.rego": "package backstage.authz\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n" +
			"allow if input.permission.name == concat(\".\", [\"rev\", data.backstage.authz.revision])\n",
		"backstage/authz/data.json": `{"revision": "1"}`,
	}
	server.put("authz", signer.build(t, files, "1"))
	var notModified atomic.Int64
	server.guard = func(r *http.Request) bool {
		if r.Header.Get("If-None-Match") != "" {
			notModified.Add(1)
		}
		return true
	}
	opa := fromService(map[string]any{"url": server.URL()}, map[string]any{"signing": map[string]any{"keyid": "k", "scope": ""}})
	opa["keys"] = map[string]any{"k": map[string]any{"key": signer.public, "algorithm": "ES256"}}
	site := newSite(t, siteOptions{opa: opa})
	site.allows(t, "1")
	confirmed := site.status().Confirmed
	eventually(t, "a request with an ETag", func() bool { return notModified.Load() > 0 })
	eventually(t, "the policy is confirmed", func() bool { return site.status().Confirmed.After(confirmed) })
	files["backstage/authz/data.json"] = `{"revision": "2"}`
	server.put("authz", signer.build(t, files, "2"))
	site.allows(t, "2")
}

// With long polling a new bundle arrives at once, though polling is rare.
func TestLongPolling(t *testing.T) {
	server := newBundleServer(t)
	server.put("authz", archive(t, supplied("1")))
	site := newSite(t, siteOptions{opa: fromService(map[string]any{"url": server.URL()}, map[string]any{"polling": map[string]any{
		"min_delay_seconds": 3600, "max_delay_seconds": 3600, "long_polling_timeout_seconds": 30,
	}})})
	site.allows(t, "1")
	for _, revision := range []string{"2", "3", "4"} {
		server.put("authz", archive(t, supplied(revision)))
		site.allows(t, revision)
	}
	if n := server.requests.Load(); n > 8 {
		t.Errorf("%d requests for 4 bundles", n)
	}
}

func TestCredentialsOfServices(t *testing.T) {
	dir := t.TempDir()
	tokenFile := filepath.Join(dir, "token")
	check(t, os.WriteFile(tokenFile, []byte("from-a-file"), 0o600))
	ca := newAuthority(t)
	certFile, keyFile, caFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	ca.issue(t, certFile, keyFile)
	check(t, os.WriteFile(caFile, ca.pem, 0o600))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	check(t, err)
	issuer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "stagedoor" || secret != "oauth-secret" || r.FormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"by-oauth","token_type":"Bearer","expires_in":60}`)
	}))
	issuer.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	issuer.StartTLS()
	t.Cleanup(issuer.Close)
	for name, test := range map[string]struct {
		credentials map[string]any
		want        string
	}{
		"bearer":             {map[string]any{"bearer": map[string]any{"token": "in-the-config"}}, "Bearer in-the-config"},
		"bearer from a file": {map[string]any{"bearer": map[string]any{"token_path": tokenFile, "scheme": "Token"}}, "Token from-a-file"},
		"OAuth2": {map[string]any{"oauth2": map[string]any{
			"token_url": issuer.URL, "client_id": "stagedoor", "client_secret": "oauth-secret", "grant_type": "client_credentials",
		}}, "Bearer by-oauth"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newBundleServer(t)
			server.put("authz", archive(t, supplied("1")))
			server.guard = func(r *http.Request) bool { return r.Header.Get("Authorization") == test.want }
			site := newSite(t, siteOptions{opa: fromService(map[string]any{
				"url": server.URL(), "credentials": test.credentials, "tls": map[string]any{"ca_cert": caFile},
			}, nil)})
			site.allows(t, "1")
			for _, secret := range []string{"in-the-config", "from-a-file", "by-oauth", "oauth-secret"} {
				if strings.Contains(site.log.String(), secret) {
					t.Errorf("%s stands in the log", secret)
				}
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	certFile, keyFile, caFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	ca.issue(t, certFile, keyFile)
	check(t, os.WriteFile(caFile, ca.pem, 0o600))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	check(t, err)
	bundles := newBundleServer(t)
	bundles.put("authz", archive(t, supplied("1")))
	server := httptest.NewUnstartedServer(bundles)
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := map[string]any{"ca_cert": caFile}
	site := newSite(t, siteOptions{opa: fromService(map[string]any{
		"url": server.URL, "tls": trusted, "credentials": map[string]any{"client_tls": map[string]any{"cert": certFile, "private_key": keyFile}},
	}, nil)})
	site.allows(t, "1")
	stranger := newSite(t, siteOptions{opa: fromService(map[string]any{"url": server.URL, "tls": trusted}, nil)})
	eventually(t, "the refusal", func() bool { return strings.Contains(refusalOf(stranger, "authz"), "certificate required") })
}

// authority issues certificates for this machine.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	a := &authority{key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(t testing.TB, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "stagedoor"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// TestOCIRegistry has bundles in a registry, where a stock client put them, and
// serves the last one when it is gone.
func TestOCIRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	push(t, host, archive(t, supplied("1")))
	opa := fromService(map[string]any{"url": server.URL, "type": "oci"}, map[string]any{
		"resource": host + "/policies/authz:latest", "persist": true,
	})
	opa["persistence_directory"] = t.TempDir()
	site := newSite(t, siteOptions{opa: opa})
	site.allows(t, "1")
	push(t, host, archive(t, supplied("2")))
	site.allows(t, "2")
	push(t, host, archive(t, bad(unknownRule)))
	eventually(t, "the refusal", func() bool { return strings.Contains(refusalOf(site, "authz"), "undefined function") })
	site.allows(t, "2")
	server.Close()
	again := newSite(t, siteOptions{opa: opa})
	if status := again.status(); !status.Ready {
		t.Errorf("after a restart without the registry: %+v", status)
	}
	again.allows(t, "2")
}

// push puts a bundle into the registry as policies/authz:latest.
func push(t testing.TB, host string, bundle []byte) {
	t.Helper()
	store := memory.New()
	layer, err := oras.PushBytes(t.Context(), store, ocispec.MediaTypeImageLayerGzip, bundle)
	check(t, err)
	image, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, "application/vnd.unknown.artifact.v1",
		oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	check(t, err)
	check(t, store.Tag(t.Context(), image, "latest"))
	repository, err := remote.NewRepository(host + "/policies/authz")
	check(t, err)
	repository.PlainHTTP = true
	_, err = oras.Copy(t.Context(), store, "latest", repository, "latest", oras.DefaultCopyOptions)
	check(t, err)
}

// TestS3 has bundles in a store that speaks S3's protocol.
func TestS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "stagedoor")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3-secret")
	t.Setenv("AWS_REGION", "eu-central-1")
	backend := s3mem.New()
	check(t, backend.CreateBucket("policies"))
	store := gofakes3.New(backend).Server()
	var unsigned atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=stagedoor/") {
			unsigned.Add(1)
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	put := func(bundle []byte) {
		_, err := backend.PutObject("policies", "prod/authz.tar.gz", nil, bytes.NewReader(bundle), int64(len(bundle)), nil)
		check(t, err)
	}
	put(archive(t, supplied("1")))
	site := newSite(t, siteOptions{opa: fromService(map[string]any{
		"url": server.URL + "/policies", "credentials": map[string]any{"s3_signing": map[string]any{"environment_credentials": map[string]any{}}},
	}, map[string]any{"resource": "prod/authz.tar.gz"})})
	site.allows(t, "1")
	put(archive(t, supplied("2")))
	site.allows(t, "2")
	if unsigned.Load() != 0 {
		t.Errorf("%d requests without a signature", unsigned.Load())
	}
	if strings.Contains(site.log.String(), "s3-secret") {
		t.Error("the secret stands in the log")
	}
}

// TestFileResource has OPA read a bundle from this machine, with its signature.
func TestFileResource(t *testing.T) {
	signer := newSigner(t)
	path := filepath.Join(t.TempDir(), "authz.tar.gz")
	check(t, os.WriteFile(path, signer.signed(t, supplied("1")), 0o600))
	opa := map[string]any{
		"keys":    map[string]any{"k": map[string]any{"key": signer.public, "algorithm": "ES256"}},
		"bundles": map[string]any{"authz": map[string]any{"resource": "file://" + path, "signing": map[string]any{"keyid": "k"}}},
	}
	newSite(t, siteOptions{opa: opa}).allows(t, "1")
	check(t, os.WriteFile(path, archive(t, supplied("1")), 0o600))
	unsigned := newSite(t, siteOptions{opa: opa})
	eventually(t, "the refusal", func() bool { return strings.Contains(refusalOf(unsigned, "authz"), "signatures.json") })
}

// TestStatusOverHTTP reads what an operator sees.
func TestStatusOverHTTP(t *testing.T) {
	server := newBundleServer(t)
	server.put("authz", archive(t, supplied("1")))
	site := newSite(t, siteOptions{opa: fromService(map[string]any{"url": server.URL()}, nil)})
	site.allows(t, "1")
	server.put("authz", archive(t, bad(unknownRule)))
	eventually(t, "the refusal", func() bool { return refusalOf(site, "authz") != "" })
	_, body := get(t, site.admin+"/status")
	var status struct {
		Ready    bool
		Revision string
		Since    time.Time
		Refused  []struct{ Bundle, Revision, Reason string }
	}
	check(t, json.Unmarshal([]byte(body), &status))
	if !status.Ready || status.Revision != "1" || status.Since.IsZero() || len(status.Refused) != 1 ||
		status.Refused[0].Bundle != "authz" || status.Refused[0].Revision != "bad" {
		t.Errorf("status %s", body)
	}
	eventually(t, "OPA's metrics", func() bool {
		_, metrics := get(t, site.admin+"/metrics")
		return strings.Contains(metrics, `bundle_failed_load_counter{`) && strings.Contains(metrics, `active_revision="1"`)
	})
}
