package adapter_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// recordedCase is one of testdata/cases/requests.json; the shape is described
// where the cases were recorded.
type recordedCase struct {
	Name     string             `json:"name"`
	Method   string             `json:"method"`
	Path     string             `json:"path"`
	Headers  map[string]*string `json:"headers"`
	JSON     json.RawMessage    `json:"json"`
	Raw      *string            `json:"raw"`
	Pad      int                `json:"pad"`
	Pack     string             `json:"pack"`
	Chunked  bool               `json:"chunked"`
	Token    *tokenSpec         `json:"token"`
	TokenFor *tokenSpec         `json:"tokenFor"`
}

type tokenSpec struct {
	Kind   string         `json:"kind"`
	Value  string         `json:"value"`
	Sub    string         `json:"sub"`
	Plugin string         `json:"plugin"`
	Key    string         `json:"key"`
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
}

type recordedAnswer struct {
	Status      int     `json:"status"`
	ContentType *string `json:"contentType"`
	Body        any     `json:"body"`
}

// difference is a case that stagedoor answers otherwise, on purpose.
type difference struct {
	row    string // of the table in docs/differences.md
	status int
	name   string // of the error, or empty
	body   string // of the answer, or empty where it is not to be compared
}

const allowed = `{"items":[{"id":"1","result":"ALLOW"}]}`

var differences = map[string]difference{
	"body of 1 MiB":                  {"larger bodies", 200, "", ""},
	"chunked body of 200 KiB":        {"larger bodies", 200, "", ""},
	"plugin header, garbage payload": {"garbage payload", 401, "AuthenticationError", ""},
	"policy is true":                 {"plain boolean", 200, "", allowed},
	"policy is a string":             {"odd answer", 500, "Error", ""},
	"policy without pluginId":        {"odd answer", 500, "Error", ""},

	"conditional, plugin unknown, ref":                    {"plugin refuses", 500, "Error", ""},
	"conditions: rule unknown, ref":                       {"unknown rule", 500, "Error", ""},
	"conditions: rule unknown, unknown ref only":          {"unknown rule", 500, "Error", ""},
	"conditions: params missing, array of refs":           {"bad params", 500, "Error", ""},
	"conditions: params of the wrong type, no ref":        {"bad params", 500, "Error", ""},
	"conditions: params of the wrong type, array of refs": {"bad params", 500, "Error", ""},
	"conditions: empty anyOf, array of refs":              {"empty anyOf", 200, "", `{"items":[{"id":"1","result":"DENY"}]}`},
	"conditions: a string, no ref":                        {"malformed criterion", 500, "Error", ""},
	"conditions: a string, ref":                           {"malformed criterion", 500, "Error", ""},
	"conditions: anyOf and allOf at once, no ref":         {"malformed criterion", 500, "Error", ""},
	"conditions: anyOf and allOf at once, ref":            {"malformed criterion", 500, "Error", ""},
	"conditions: anyOf and allOf at once, array of refs":  {"malformed criterion", 500, "Error", ""},
	"one failing callback spoils the batch":               {"unknown rule", 500, "Error", ""},
}

// TestRecordedCases replays what the reference backend was asked, and compares
// with what it answered.
func TestRecordedCases(t *testing.T) {
	newSite(t, siteOptions{policyDir: peerPolicy(t), entrypoint: "peer/authz/decision"}).replayAll(t)
}

// replayAll replays all recorded cases at a site with the policy of the recordings.
func (s *site) replayAll(t *testing.T) {
	t.Helper()
	dir := filepath.Join("..", "testdata", "cases")
	var cases []recordedCase
	readJSONFile(t, filepath.Join(dir, "requests.json"), &cases)
	var golden map[string]recordedAnswer
	readJSONFile(t, filepath.Join(dir, "golden.json"), &golden)
	s.awaitMetadata(t)
	seen := 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			want, recorded := golden[c.Name]
			if !recorded {
				t.Fatal("no recorded answer")
			}
			got := s.replay(t, c)
			if d, differs := differences[c.Name]; differs {
				seen++
				d.compare(t, got)
				return
			}
			compare(t, got, want)
		})
	}
	if strings.Contains(s.log.String(), "eyJ") { // as every token starts
		t.Errorf("a token in the log:\n%s", s.log)
	}
	if len(cases) != len(golden) || seen != len(differences) {
		t.Errorf("%d cases, %d answers; %d of %d differences were met", len(cases), len(golden), seen, len(differences))
	}
}

func (d difference) compare(t *testing.T, got recordedAnswer) {
	t.Helper()
	if got.Status != d.status || errorName(got.Body) != d.name {
		t.Errorf("status %d, error %q; want %d, %q (%s)\n%v", got.Status, errorName(got.Body), d.status, d.name, d.row, got.Body)
	}
	if d.body != "" {
		var want any
		if err := json.Unmarshal([]byte(d.body), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Body); diff != "" {
			t.Errorf("body (-want +got):\n%s", diff)
		}
	}
}

func compare(t *testing.T, got, want recordedAnswer) {
	t.Helper()
	if got.Status != want.Status {
		t.Fatalf("status %d, want %d\n%v", got.Status, want.Status, got.Body)
	}
	if diff := cmp.Diff(want.ContentType, got.ContentType); diff != "" {
		t.Errorf("content type (-want +got):\n%s", diff)
	}
	// The words of a message are free.
	if diff := cmp.Diff(withoutMessage(want.Body), withoutMessage(got.Body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func errorName(body any) string {
	document, _ := body.(map[string]any)
	failure, _ := document["error"].(map[string]any)
	name, _ := failure["name"].(string)
	return name
}

// withoutMessage leaves of an error what is compared: name, request and response.
func withoutMessage(body any) any {
	document, ok := body.(map[string]any)
	if !ok || document["error"] == nil {
		return body
	}
	return map[string]any{"name": errorName(body), "request": document["request"], "response": document["response"]}
}

func readJSONFile(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

// peerPolicy is the policy of the recordings as a bundle.
func peerPolicy(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "testdata", "cases", "policy", "authz.rego"))
	if err != nil {
		t.Fatal(err)
	}
	return writeBundle(t, map[string]string{".manifest": `{"roots":["peer"]}`, "authz.rego": string(source)})
}

// replay sends a recorded request.
func (s *site) replay(t *testing.T, c recordedCase) recordedAnswer {
	t.Helper()
	method, path := c.Method, c.Path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/authorize"
	}
	body := c.body(t)
	var reader io.Reader = bytes.NewReader(body)
	if c.Chunked {
		reader = io.MultiReader(reader) // of unknown length
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != nil {
		request.Header.Set("Authorization", "Bearer "+s.mint(t, *c.Token))
	}
	for name, value := range c.Headers {
		switch {
		case value == nil:
			request.Header.Del(name)
		case strings.Contains(*value, "{token}"):
			request.Header.Set(name, strings.ReplaceAll(*value, "{token}", s.mint(t, *c.TokenFor)))
		default:
			request.Header.Set(name, *value)
		}
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := recordedAnswer{Status: response.StatusCode, Body: string(text)}
	if contentType := response.Header.Get("Content-Type"); contentType != "" {
		answer.ContentType = &contentType
	}
	var document any
	if json.Unmarshal(text, &document) == nil {
		answer.Body = document
	}
	return answer
}

func (c recordedCase) body(t *testing.T) []byte {
	t.Helper()
	var body []byte
	switch {
	case c.Raw != nil:
		body = []byte(*c.Raw)
	case c.Pad > 0:
		document := c.JSON
		if document == nil {
			document = json.RawMessage(`{"items":[]}`)
		}
		body = padded(document, c.Pad)
	case c.JSON != nil:
		body = c.JSON
	default:
		return nil
	}
	if c.Pack == "" {
		return body
	}
	var packed bytes.Buffer
	switch c.Pack {
	case "gzip":
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	case "br":
		packed.Write(body) // is refused before anybody looks
	default:
		t.Fatalf("pack %q", c.Pack)
	}
	return packed.Bytes()
}

// padded adds a member pad to the document, so that it has exactly size bytes.
func padded(document json.RawMessage, size int) []byte {
	var compact bytes.Buffer
	_ = json.Compact(&compact, document)
	start := strings.TrimSuffix(compact.String(), "}") + `,"pad":"`
	const end = `"}`
	return []byte(start + strings.Repeat("x", size-len(start)-len(end)) + end)
}

// mint makes the token that a case describes.
func (s *site) mint(t *testing.T, spec tokenSpec) string {
	t.Helper()
	if spec.Kind == "raw" {
		return spec.Value
	}
	sub := spec.Sub
	if sub == "" {
		sub = "user:default/alice"
	}
	now := time.Now().Unix()
	key := s.backstage.UserKey
	header := map[string]any{"alg": "ES256", "kid": key.ID}
	claims := map[string]any{"iat": now, "exp": now + 3600, "sub": sub}
	switch spec.Kind {
	case "user":
		header["typ"] = "vnd.backstage.user"
		claims["iss"], claims["aud"] = s.backstage.URL+"/api/auth", "backstage"
	case "limited":
		header["typ"] = "vnd.backstage.limited-user"
	case "obo", "service":
		key = s.backstage.PluginKey
		header["typ"], header["kid"] = "vnd.backstage.plugin", key.ID
		claims["sub"], claims["aud"] = "todo", "permission"
		if spec.Plugin != "" {
			claims["sub"] = spec.Plugin
		}
	default:
		t.Fatalf("token kind %q", spec.Kind)
	}
	if spec.Kind == "obo" {
		limited, err := s.backstage.LimitedToken(sub)
		if err != nil {
			t.Fatal(err)
		}
		claims["obo"] = limited
	}
	override(claims, spec.Claims, now)
	if spec.Kind == "user" {
		if _, stated := spec.Claims["uip"]; !stated {
			claims["uip"] = s.proof(t, claims)
		}
	}
	switch spec.Key {
	case "user":
		key = s.backstage.UserKey
	case "plugin":
		key = s.backstage.PluginKey
	case "stranger":
		key = s.stranger
	}
	override(header, spec.Header, now)
	if kid, ok := header["kid"].(string); ok {
		header["kid"] = strings.NewReplacer("peer-user-key", s.backstage.UserKey.ID, "peer-plugin-key", s.backstage.PluginKey.ID).Replace(kid)
	}
	return sign(t, key, header, claims)
}

// override replaces members: null removes, and "+60" of a time is seconds from now.
func override(of, with map[string]any, now int64) {
	for name, value := range with {
		text, isText := value.(string)
		offset, err := strconv.ParseInt(text, 10, 64)
		switch {
		case value == nil:
			delete(of, name)
		case isText && err == nil && (name == "iat" || name == "exp" || name == "nbf"):
			of[name] = now + offset
		default:
			of[name] = value
		}
	}
}

// proof is the signature of the limited token that can be rebuilt from the claims.
func (s *site) proof(t *testing.T, claims map[string]any) string {
	t.Helper()
	limited, err := s.backstage.UserKey.Sign(struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"vnd.backstage.limited-user", "ES256", s.backstage.UserKey.ID}, struct {
		Sub any `json:"sub"`
		Iat any `json:"iat"`
		Exp any `json:"exp"`
	}{claims["sub"], claims["iat"], claims["exp"]})
	if err != nil {
		t.Fatal(err)
	}
	return limited[strings.LastIndex(limited, ".")+1:]
}

func sign(t *testing.T, key *sample.Key, header, claims map[string]any) string {
	t.Helper()
	if header["alg"] != "HS256" {
		token, err := key.Sign(header, claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	encode := func(v map[string]any) string {
		text, err := json.Marshal(maps.Clone(v))
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	input := encode(header) + "." + encode(claims)
	fmt.Fprint(mac, input)
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
