package endpoint

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// echo says what arrived.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	who := "nobody"
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		who = r.TLS.VerifiedChains[0][0].Subject.CommonName
	}
	fmt.Fprintf(w, "%s %s %s %q", r.Proto, r.URL.Path, who, body)
})

// open serves until the test ends.
func open(t *testing.T, o Options, handler http.Handler) *Endpoint {
	t.Helper()
	return serve(t, o, handler, quiet())
}

func serve(t *testing.T, o Options, handler http.Handler, log *logrus.Entry) *Endpoint {
	t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Connections == 0 {
		o.Connections = 100
	}
	e, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(handler, log) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

func dial(t *testing.T, e *Endpoint) net.Conn {
	t.Helper()
	network, address := "tcp", e.Address()
	if path, isUnix := strings.CutPrefix(address, unixPrefix); isUnix {
		network, address = "unix", path
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c
}

// TestRawRequests holds what is answered, and whether the connection is closed then, to
// what is sent. Each is sent whole, and byte by byte; the last answer counts.
func TestRawRequests(t *testing.T) {
	e := open(t, Options{}, echo)
	const chunked = "Transfer-Encoding: chunked\r\n"
	for name, c := range map[string]struct {
		sent   string
		status []int
		closed bool
	}{
		"plain":                    {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab", []int{200}, false},
		"two":                      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nabGET /x HTTP/1.1\r\nHost: h\r\n\r\n", []int{200, 200}, false},
		"bare line feeds":          {"GET / HTTP/1.1\nHost: h\n\n", []int{200}, false},
		"body like a continuation": {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n{\r\n  1\n}GET / HTTP/1.1\r\nHost: h\r\n\r\n", []int{200, 200}, false},
		"lines after a body":       {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", []int{200, 200}, false},
		"chunked":                  {"POST / HTTP/1.1\r\nHost: h\r\n" + chunked + "\r\n2\r\nab\r\n0\r\n\r\n", []int{200}, true},
		"length and chunked":       {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" + chunked + "\r\n2\r\nab\r\n0\r\n\r\n", []int{200}, true},
		"chunked and length":       {"POST / HTTP/1.1\r\nHost: h\r\n" + chunked + "Content-Length: 30\r\n\r\n2\r\nab\r\n0\r\n\r\n", []int{200}, true},
		"chunked by HTTP/1.0":      {"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n" + chunked + "\r\nab", []int{200}, true},
		"other coding":             {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", []int{501}, true},
		"continued line":           {"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", []int{400}, true},
		"continued by a tab":       {"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", []int{400}, true},
		"continued first line":     {"GET / HTTP/1.1\r\n Host: h\r\n\r\n", []int{400}, true},
		"continued coding":         {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n\r\nab", []int{400}, true},
		"continued length":         {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n 2\r\n\r\nab", []int{400}, true},
		"continued after a coding": {"POST / HTTP/1.1\r\nHost: h\r\n" + chunked + "X: a\r\n b\r\n\r\n0\r\n\r\n", []int{400}, true},
		"continued in a second":    {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nabGET /x HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", []int{200, 400}, true},
		"continued by blanks":      {"GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n", []int{400}, true},
		"two lengths":              {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab", []int{400}, true},
		"negative length":          {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", []int{400}, true},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, whole %v", name, whole), func(t *testing.T) {
				connection := dial(t, e)
				go func() {
					if whole {
						_, _ = io.WriteString(connection, c.sent)
						return
					}
					for i := range c.sent {
						if _, err := io.WriteString(connection, c.sent[i:i+1]); err != nil {
							return
						}
					}
				}()
				reader := bufio.NewReader(connection)
				for i, want := range c.status {
					answer, err := http.ReadResponse(reader, nil)
					if err != nil {
						t.Fatalf("answer %d: %v", i, err)
					}
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
					if answer.StatusCode != want {
						t.Errorf("answer %d: %d, want %d", i, answer.StatusCode, want)
					}
					if last := i == len(c.status)-1; last && answer.Close != c.closed {
						t.Errorf("it says that it closes: %v", answer.Close)
					}
				}
				if c.closed {
					if _, err := reader.ReadByte(); err == nil {
						t.Error("more came")
					}
				}
			})
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("authority", "ca", nil)
	return a
}

// issue makes a certificate and its key, in files of that name.
func (a *authority) issue(name, file string, signer *authority) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	a.made++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.made), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, by := template, private
	if signer == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, by = signer.cert, signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, by)
	check(a.t, err)
	if signer == nil {
		a.key = private
		a.cert, err = x509.ParseCertificate(der)
		check(a.t, err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	check(a.t, err)
	cert, key = filepath.Join(a.dir, file+".pem"), filepath.Join(a.dir, file+".key")
	check(a.t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(a.t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	return cert, key
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client trusts the authority, and shows a certificate if there is one.
func (a *authority) client(cert, key string, http2 bool) *http.Client {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		check(a.t, err)
		c.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: c, Protocols: &http.Protocols{}, DisableKeepAlives: !http2}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

func get(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/p", strings.NewReader("b"))
	check(t, err)
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue("server", "server", a)
	known, knownKey := a.issue("ann", "ann", a)
	foreign, foreignKey := other.issue("eve", "eve", other)
	files := TLS{CertFile: cert, KeyFile: key}
	mutual := files
	mutual.ClientCAFile = filepath.Join(a.dir, "ca.pem")
	optional := mutual
	optional.ClientsOptional = true
	for name, c := range map[string]struct {
		files     TLS
		cert, key string
		want      string
	}{
		"no certificate asked for": {files, "", "", "nobody"},
		"required and shown":       {mutual, known, knownKey, "ann"},
		"required and not shown":   {mutual, "", "", ""},
		"required and foreign":     {mutual, foreign, foreignKey, ""},
		"optional and shown":       {optional, known, knownKey, "ann"},
		"optional and not shown":   {optional, "", "", "nobody"},
		"optional and foreign":     {optional, foreign, foreignKey, ""},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", name, http2), func(t *testing.T) {
				e := open(t, Options{TLS: &c.files}, echo)
				got, err := get(t, a.client(c.cert, c.key, http2), e.URL())
				want := "HTTP/1.1 /p " + c.want + ` "b"`
				if http2 {
					want = "HTTP/2.0 /p " + c.want + ` "b"`
				}
				if c.want == "" && err == nil || c.want != "" && got != want {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
	t.Run("an old version", func(t *testing.T) {
		e := open(t, Options{TLS: &files}, echo)
		client := a.client("", "", false)
		client.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11 //nolint:forcetypeassert // made so
		if got, err := get(t, client, e.URL()); err == nil {
			t.Errorf("answered %q", got)
		}
	})
	t.Run("plain HTTP", func(t *testing.T) {
		e := open(t, Options{TLS: &files}, echo)
		if got, err := get(t, http.DefaultClient, "http://"+e.Address()); err == nil && strings.Contains(got, "/p") {
			t.Errorf("answered %q", got)
		}
	})
}

// TestCertificatesAreReadAnew changes the files, and breaks them.
func TestCertificatesAreReadAnew(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("one", "server", a)
	files := &TLS{CertFile: cert, KeyFile: key}
	log, lines := logtest.NewNullLogger()
	e := serve(t, Options{TLS: files}, echo, logrus.NewEntry(log))
	told := func(want string) {
		t.Helper()
		var all strings.Builder
		for _, line := range lines.AllEntries() {
			text, err := line.String()
			check(t, err)
			all.WriteString(text)
		}
		said := all.String()
		lines.Reset()
		if strings.TrimSpace(said) == "" && want == "" {
			return
		}
		if strings.Count(said, "\n") != 1 || want == "" || !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("the log has %q, want %q once", said, want)
		}
	}
	readAnew := `level=info msg="the certificate was read anew" expires="20\d\d-\d\d-\d\dT[0-9:]{8}Z" file=` + cert
	serves := func() string {
		c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", e.Address())
		check(t, err)
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName //nolint:forcetypeassert // it is one
	}
	if got := serves(); got != "one" {
		t.Errorf("%s serves", got)
	}
	told("")
	a.issue("two", "server", a)
	check(t, e.Reload(files))
	told(readAnew)
	if got := serves(); got != "two" {
		t.Errorf("%s serves", got)
	}
	check(t, os.WriteFile(cert, []byte("nonsense"), 0o600))
	if err := e.Reload(files); err == nil {
		t.Error("nonsense was read")
	}
	if got := serves(); got != "two" {
		t.Errorf("%s serves", got)
	}
	if err := e.Reload(nil); err == nil {
		t.Error("TLS was left off")
	}
	later := time.Now()
	change := func(done func() bool) {
		t.Helper()
		later = later.Add(time.Minute)
		check(t, os.Chtimes(cert, later, later))
		for begun := time.Now(); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Since(begun) > 2*time.Minute {
				t.Fatal("the changed files were not read")
			}
		}
	}
	lines.Reset()
	change(func() bool { return serves() == "two" && len(lines.AllEntries()) > 0 })
	told(`level=warning msg="the changed certificate is refused, and the old one goes on" error="certFile and keyFile: .*" file=` + cert)
	a.issue("three", "server", a)
	change(func() bool { return serves() == "three" })
	told(readAnew)
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	check(t, err)
	stale.SetUnlinkOnClose(false)
	check(t, stale.Close())
	e := open(t, Options{Address: "unix:" + path}, echo)
	c := dial(t, e)
	_, err = io.WriteString(c, "GET /p HTTP/1.1\r\nHost: h\r\n\r\n")
	check(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	check(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || e.URL() != "unix:"+path {
		t.Errorf("%d at %s", answer.StatusCode, e.URL())
	}
	if _, err := Listen(t.Context(), Options{Address: "unix:" + path}); err == nil {
		t.Error("two listen at one socket")
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := Listen(t.Context(), Options{Address: "unix:" + file}); err == nil {
		t.Error("a file was replaced")
	}
}

func TestH2C(t *testing.T) {
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	if got, err := get(t, client, open(t, Options{H2C: true}, echo).URL()); got != `HTTP/2.0 /p nobody "b"` {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := get(t, client, open(t, Options{}, echo).URL()); err == nil {
		t.Errorf("without the key: %q", got)
	}
}

// TestManyConnections opens more than there may be, of several kinds, and asks after each.
func TestManyConnections(t *testing.T) {
	const most, more = 8, 12
	a := newAuthority(t)
	cert, key := a.issue("server", "server", a)
	for name, o := range map[string]Options{
		"plain": {Connections: most}, "TLS": {Connections: most, TLS: &TLS{CertFile: cert, KeyFile: key}},
		"h2c": {Connections: most, H2C: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, o, echo)
			ask := func() {
				t.Helper()
				client := &http.Client{Timeout: 2 * time.Minute}
				if o.TLS != nil {
					client = a.client("", "", false)
				}
				transport, _ := client.Transport.(*http.Transport)
				if transport == nil {
					transport = &http.Transport{DisableKeepAlives: true}
					if o.H2C {
						transport = &http.Transport{Protocols: &http.Protocols{}}
						transport.Protocols.SetUnencryptedHTTP2(true)
						t.Cleanup(transport.CloseIdleConnections) // kept open until the end
					}
					client.Transport = transport
				}
				if got, err := get(t, client, e.URL()); err != nil || !strings.Contains(got, "/p") {
					t.Fatalf("%q, %v", got, err)
				}
			}
			for range more {
				dial(t, e)
				ask()
			}
			e.mutex.Lock()
			if n := len(e.connections); n > most {
				t.Errorf("%d connections", n)
			}
			e.mutex.Unlock()
		})
	}
}

// TestBusyConnectionsStay fills the endpoint with requests under way: none is cut off.
func TestBusyConnectionsStay(t *testing.T) {
	const most = 5
	release := make(chan struct{})
	entered := make(chan struct{}, most)
	e := open(t, Options{Connections: most}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/p" {
			entered <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "done")
	}))
	answers := make(chan string, most+1)
	for range most + 1 {
		go func() {
			got, err := get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}, e.URL())
			answers <- fmt.Sprint(got, err)
		}()
	}
	for range most {
		<-entered
	}
	close(release)
	for range most + 1 {
		if got := <-answers; got != "done<nil>" {
			t.Error(got)
		}
	}
}

// TestDrain ends connections with their answers, in HTTP/1 and HTTP/2.
func TestDrain(t *testing.T) {
	e := open(t, Options{}, echo)
	c := dial(t, e)
	reader := bufio.NewReader(c)
	for _, closes := range []bool{false, true} {
		if closes {
			e.Drain()
		}
		_, err := io.WriteString(c, "GET /p HTTP/1.1\r\nHost: h\r\n\r\n")
		check(t, err)
		answer, err := http.ReadResponse(reader, nil)
		check(t, err)
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.Close != closes {
			t.Errorf("%d, closes: %v, want %v", answer.StatusCode, answer.Close, closes)
		}
	}
	if _, err := reader.ReadByte(); err == nil {
		t.Error("more came")
	}
	a := newAuthority(t)
	cert, key := a.issue("server", "server", a)
	e = open(t, Options{TLS: &TLS{CertFile: cert, KeyFile: key}}, echo)
	client := a.client("", "", true)
	for i := range 20 { // of which none fails, whichever connection it takes
		if i == 10 {
			e.Drain()
		}
		if _, err := get(t, client, e.URL()); err != nil {
			t.Error(err)
		}
	}
}

// FuzzChecked holds what passes to what arrived: all of it, or its beginning and then
// what net/http refuses.
func FuzzChecked(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"), 7)
	f.Fuzz(func(t *testing.T, sent []byte, size int) {
		here, there := net.Pipe()
		go func() { _, _ = there.Write(sent); _ = there.Close() }()
		c := &checked{Conn: here}
		var got []byte
		buffer := make([]byte, max(1, min(size, 100)))
		for {
			n, err := c.Read(buffer)
			got = append(got, buffer[:n]...)
			if err != nil {
				break
			}
		}
		if before, after, cut := strings.Cut(string(got), malformed); string(got) != string(sent) &&
			(!cut || after == "" && !strings.HasPrefix(string(sent), before)) {
			t.Errorf("%q became %q", sent, got)
		}
	})
}
