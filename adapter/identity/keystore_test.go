package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/stagedoor/stagedoor/adapter/identity/keyring"
)

// files writes a key pair and returns the configuration of it.
func files(t *testing.T, id, alg string, private any) keyring.KeyFiles {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return keyring.KeyFiles{
		PublicKeyFile:  pemFile(t, "PUBLIC KEY", public),
		PrivateKeyFile: pemFile(t, "PRIVATE KEY", secret),
		KeyID:          id,
		Algorithm:      alg,
	}
}

func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	return textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func textFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// published returns the JWK set as it stands.
func published(t *testing.T, i *Identity) []map[string]any {
	t.Helper()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(i.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func kids(t *testing.T, i *Identity) (all []string) {
	t.Helper()
	for _, k := range published(t, i) {
		all = append(all, k["kid"].(string))
	}
	return all
}

func TestStaticKeys(t *testing.T) {
	b := newBackstage()
	first, second := files(t, "one", "", ecKey(t, elliptic.P256())), files(t, "two", "ES384", ecKey(t, elliptic.P384()))
	second.PrivateKeyFile = ""
	i := b.identity(t, Options{PluginKeyStore: keyring.Options{Type: "static", Keys: []keyring.KeyFiles{first, second}}})
	token, err := i.PluginToken(t.Context(), "todo", caller(t, i, b.user(spec{})))
	if err != nil {
		t.Fatal(err)
	}
	header, _ := opened(t, token, i.JWKS())
	if header["kid"] != "one" || header["alg"] != "ES256" {
		t.Errorf("signed by %v", header)
	}
	keys := published(t, i)
	if len(keys) != 2 || keys[0]["kid"] != "one" || keys[0]["alg"] != "ES256" || keys[1]["kid"] != "two" || keys[1]["alg"] != "ES384" {
		t.Errorf("published %v", keys)
	}
	for _, k := range keys {
		if _, ok := k["d"]; ok || k["kty"] != "EC" {
			t.Errorf("published %v", k)
		}
	}
}

// Plugins verify the tokens of one replica by the key set of any other one, where
// both have the same static keys.
func TestReplicas(t *testing.T) {
	b := newBackstage()
	shared := Options{PluginKeyStore: keyring.Options{Type: "static", Keys: []keyring.KeyFiles{files(t, "one", "", ecKey(t, elliptic.P256()))}}}
	for name, test := range map[string]struct {
		options Options
		same    bool
	}{"static keys": {shared, true}, "keys in memory": {Options{}, false}} {
		t.Run(name, func(t *testing.T) {
			first, second := b.identity(t, test.options), b.identity(t, test.options)
			for _, i := range []*Identity{first, second} {
				if _, err := i.PluginToken(t.Context(), "todo", caller(t, i, b.user(spec{}))); err != nil { // makes a key
					t.Fatal(err)
				}
			}
			token, err := first.PluginToken(t.Context(), "todo", caller(t, first, b.user(spec{})))
			if err != nil {
				t.Fatal(err)
			}
			set, err := jwk.Parse(second.JWKS())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jws.Verify([]byte(token), jws.WithKeySet(set)); (err == nil) != test.same {
				t.Errorf("by the other's key set: %v", err)
			}
		})
	}
}

func TestStaticKeysOfEveryAlgorithm(t *testing.T) {
	rsa2048 := rsaKey(t, 2048)
	for alg, private := range map[string]any{
		"ES256": ecKey(t, elliptic.P256()), "ES384": ecKey(t, elliptic.P384()), "ES512": ecKey(t, elliptic.P521()),
		"RS256": rsa2048, "RS384": rsa2048, "RS512": rsa2048, "PS256": rsa2048, "PS384": rsa2048, "PS512": rsa2048,
		"EdDSA": edKey(t), "Ed25519": edKey(t),
	} {
		t.Run(alg, func(t *testing.T) {
			b := newBackstage()
			i := b.identity(t, Options{PluginKeyStore: keyring.Options{Type: "static",
				Keys: []keyring.KeyFiles{files(t, "k", alg, private)}}})
			b.fail("/api/permission/.backstage/auth/v1/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(i.JWKS())
			})
			token, err := i.ServiceToken("permission")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, i, token, outcome{Caller: Caller{Kind: Service, Actor: "permission"}})
			if published(t, i)[0]["alg"] != alg {
				t.Errorf("published %v", published(t, i))
			}
		})
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	good := files(t, "good", "", ecKey(t, elliptic.P256()))
	other := files(t, "other", "", ecKey(t, elliptic.P256()))
	ec, err := x509.MarshalECPrivateKey(ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	const at = "backend.auth.pluginKeyStore"
	static := func(keys ...keyring.KeyFiles) Options {
		return Options{PluginKeyStore: keyring.Options{Type: "static", Keys: keys}}
	}
	change := func(k keyring.KeyFiles, f func(*keyring.KeyFiles)) keyring.KeyFiles { f(&k); return k }
	for _, test := range []struct {
		name    string
		options Options
		want    []string // problems, in order
	}{
		{"zero", Options{}, nil},
		{"database", Options{PluginKeyStore: keyring.Options{Type: "database"}}, nil},
		{"static", static(good, other), nil},
		{"times", Options{UserInfoTTL: -1, Leeway: time.Hour},
			[]string{"stagedoor.identity.userInfoTtl: want 0s to 10m0s", "stagedoor.identity.leeway: want 0s to 5m0s, have 1h"}},
		{"other type", Options{PluginKeyStore: keyring.Options{Type: "redis"}}, []string{at + `.type: want static or database, have "redis"`}},
		{"keys without type", Options{PluginKeyStore: keyring.Options{Keys: []keyring.KeyFiles{good}}}, []string{at + ".static: "}},
		{"no keys", static(), []string{at + ".static.keys: names no key"}},
		{"nothing in it", static(keyring.KeyFiles{}), []string{at + ".static.keys[0].privateKeyFile: missing",
			at + ".static.keys[0].keyId: missing", at + ".static.keys[0].publicKeyFile: missing"}},
		{"second of one id", static(good, change(other, func(k *keyring.KeyFiles) { k.KeyID = "good" })),
			[]string{at + `.static.keys[1].keyId: "good" is that of keys[0] too`}},
		{"first without private key", static(change(good, func(k *keyring.KeyFiles) { k.PrivateKeyFile = "" })),
			[]string{at + ".static.keys[0].privateKeyFile: missing; the first key signs"}},
		{"no such file", static(good, change(other, func(k *keyring.KeyFiles) { k.PublicKeyFile = "/nowhere/k.pem" })),
			[]string{at + ".static.keys[1].publicKeyFile: open /nowhere/k.pem: no such file"}},
		{"no PEM", static(change(good, func(k *keyring.KeyFiles) { k.PublicKeyFile = textFile(t, "x") })),
			[]string{at + ".static.keys[0].publicKeyFile: "}},
		{"broken PEM", static(change(good, func(k *keyring.KeyFiles) { k.PrivateKeyFile = pemFile(t, "PRIVATE KEY", []byte("x")) })),
			[]string{at + ".static.keys[0].privateKeyFile: "}},
		{"files swapped", static(change(good, func(k *keyring.KeyFiles) {
			k.PublicKeyFile, k.PrivateKeyFile = k.PrivateKeyFile, k.PublicKeyFile
		})), []string{at + ".static.keys[0].publicKeyFile: ", at + ".static.keys[0].privateKeyFile: "}},
		{"SEC 1", static(change(good, func(k *keyring.KeyFiles) { k.PrivateKeyFile = pemFile(t, "EC PRIVATE KEY", ec) })),
			[]string{at + ".static.keys[0].privateKeyFile: "}},
		{"not a pair", static(change(good, func(k *keyring.KeyFiles) { k.PrivateKeyFile = other.PrivateKeyFile })),
			[]string{at + ".static.keys[0].privateKeyFile: is not the private key of publicKeyFile"}},
		{"other algorithm", static(change(good, func(k *keyring.KeyFiles) { k.Algorithm = "ES384" })),
			[]string{at + ".static.keys[0].publicKeyFile: the key is none for ES384"}},
		{"HMAC", static(change(good, func(k *keyring.KeyFiles) { k.Algorithm = "HS256" })),
			[]string{at + `.static.keys[0].algorithm: "HS256" is not supported`}},
		{"both keys", static(change(good, func(k *keyring.KeyFiles) { k.Algorithm = "none" }), change(other, func(k *keyring.KeyFiles) { k.KeyID = "" })),
			[]string{at + `.static.keys[0].algorithm: `, at + ".static.keys[1].keyId: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.options.Validate()
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("%s\nwant %s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if _, err := New(test.options, newBackstage().identity(t, Options{}).discovery, nil); err == nil {
				t.Error("New works without a log")
			}
		})
	}
}

// A key signs for an hour; it is published for an hour before, and until its last
// token has expired.
func TestKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBackstage().identity(t, Options{})
		signer := func() string {
			token, err := i.ServiceToken("todo")
			if err != nil {
				t.Fatal(err)
			}
			header, _ := opened(t, token, i.JWKS())
			return header["kid"].(string)
		}
		first, atFirst := signer(), kids(t, i)
		if len(atFirst) != 2 || atFirst[0] != first {
			t.Fatalf("%s signs, %v are published", first, atFirst)
		}
		time.Sleep(keyring.TokenLife - time.Second)
		if signer() != first || !slices.Equal(kids(t, i), atFirst) {
			t.Error("changed within the hour")
		}
		lastToken, err := i.ServiceToken("todo")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		second := signer()
		if second != atFirst[1] {
			t.Errorf("%s signs; want %s, which was published before", second, atFirst[1])
		}
		time.Sleep(keyring.TokenLife - 2*time.Second)
		opened(t, lastToken, i.JWKS())
		if all := kids(t, i); len(all) != 3 || !slices.Contains(all, first) || !slices.Contains(all, second) {
			t.Errorf("%v are published", all)
		}
		time.Sleep(2 * time.Second)
		if third := kids(t, i); slices.Contains(third, first) || len(third) != 3 || third[0] == second {
			t.Errorf("%v are published after two hours", third)
		}
		// After a long rest, too, it is a key published before that signs.
		before := kids(t, i)
		time.Sleep(100 * keyring.TokenLife)
		if next := signer(); !slices.Contains(before, next) {
			t.Errorf("%s signs, which was not published before", next)
		}
	})
}

func TestKeysRotateOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBackstage().identity(t, Options{})
		before := kids(t, i)
		time.Sleep(keyring.TokenLife)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if token, err := i.ServiceToken("todo"); err != nil {
					t.Error(err)
				} else if header, _ := opened(t, token, i.JWKS()); header["kid"] != before[1] {
					t.Errorf("%v signs; want %s", header["kid"], before[1])
				}
			})
		}
		all.Wait()
		after := kids(t, i)
		if diff := cmp.Diff([]string{before[1], after[1], before[0]}, after); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}
