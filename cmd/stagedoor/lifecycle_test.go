package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/sample"
)

// lifecycle is a Backstage with a stagedoor's binary, keys and configuration beside it.
type lifecycle struct {
	backstage *sample.Backstage
	binary    string
	dir       string
	request   []byte // of somebody who may ask
	bad       []byte // of somebody who may not
}

func newLifecycle(t *testing.T) *lifecycle {
	t.Helper()
	return newLifecycleAt(t, "")
}

// shutdownDelay leaves a busy machine time between what is to happen before its end and what
// is not.
const shutdownDelay = 5 * time.Second

// newLifecycleAt is one whose plugins know stagedoor at the URL.
func newLifecycleAt(t *testing.T, permissionURL string) *lifecycle {
	t.Helper()
	backstage, err := sample.New(t.Context())
	must(t, err)
	t.Cleanup(backstage.Close)
	backstage.Serve(permissionURL)
	dir := t.TempDir()
	l := &lifecycle{backstage: backstage, dir: dir, binary: filepath.Join(dir, "stagedoor")}
	tests, err := os.Executable() // which is stagedoor by that name; see TestMain
	must(t, err)
	must(t, os.Symlink(tests, l.binary))
	for _, id := range []string{"k1", "k2"} {
		l.key(t, id)
	}
	token, err := backstage.PluginToken("user:default/alice")
	must(t, err)
	l.request, l.bad = authorizeRequest(token), authorizeRequest("nonsense")
	return l
}

// key makes a key pair in files.
func (l *lifecycle) key(t *testing.T, id string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	must(t, err)
	writeConfig(t, filepath.Join(l.dir, id+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	writeConfig(t, filepath.Join(l.dir, id+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
}

// certify makes the certificate of the address of plugins, which is valid for so long.
func (l *lifecycle) certify(t *testing.T, valid time.Duration) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(valid), DNSNames: []string{"localhost"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	writeConfig(t, filepath.Join(l.dir, "api.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	writeConfig(t, filepath.Join(l.dir, "api.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

func authorizeRequest(token string) []byte {
	const body = `{"items":[{"id":"1","permission":{"type":"basic","name":"todo.list","attributes":{"action":"read"}}}]}`
	return fmt.Appendf(nil, "POST /api/permission/authorize HTTP/1.1\r\nHost: stagedoor\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body)
}

// configure writes a configuration and returns its file. Sections is YAML that is
// put after it.
func (l *lifecycle) configure(t *testing.T, name, key, level, sections string) string {
	t.Helper()
	file := filepath.Join(l.dir, name+".yaml")
	writeConfig(t, file, fmt.Sprintf(`
backend:
  baseUrl: %q
  lifecycle: {serverShutdownDelay: %s}
  auth: {pluginKeyStore: {type: static, static: {keys: [{keyId: %s, publicKeyFile: %q, privateKeyFile: %q}]}}}
stagedoor: {listen: "127.0.0.1:0", admin: {listen: "127.0.0.1:0"}, log: {level: %s}}
%s`, l.backstage.URL, shutdownDelay, key, filepath.Join(l.dir, key+".pem"), filepath.Join(l.dir, key+".key"), level, sections))
	return file
}

// start starts stagedoor and waits until it serves.
func (l *lifecycle) start(t *testing.T, config string) *process {
	t.Helper()
	w := &persistence{binary: l.binary, config: config}
	return w.start(t)
}

// speaker asks over a connection that it keeps, and never asks twice.
type speaker struct {
	address    string
	connection net.Conn
	reader     *bufio.Reader
}

// ask returns the status of the answer.
func (s *speaker) ask(request []byte) (int, error) {
	if s.connection == nil {
		c, err := net.DialTimeout("tcp", s.address, patience)
		if err != nil {
			return 0, err
		}
		s.connection, s.reader = c, bufio.NewReader(c)
	}
	_ = s.connection.SetDeadline(time.Now().Add(patience))
	_, err := s.connection.Write(request)
	if err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(s.reader, nil); err == nil {
			defer answer.Body.Close()
			if _, err = io.Copy(io.Discard, answer.Body); err == nil {
				if answer.Close {
					s.close()
				}
				return answer.StatusCode, nil
			}
		}
	}
	s.close()
	return 0, err
}

func (s *speaker) close() {
	if s.connection != nil {
		_ = s.connection.Close()
		s.connection = nil
	}
}

// load asks from several sides until it is stopped.
type load struct {
	asked, failed atomic.Int64
	first         atomic.Value // of the failures, as text
	stopped       chan struct{}
	group         sync.WaitGroup
}

func startLoad(address string, request []byte) *load {
	l := &load{stopped: make(chan struct{})}
	for range 8 {
		l.group.Go(func() {
			s := &speaker{address: address}
			defer s.close()
			for {
				select {
				case <-l.stopped:
					return
				case <-time.After(time.Duration(mathrand.IntN(int(20 * time.Millisecond)))):
				}
				l.asked.Add(1)
				if status, err := s.ask(request); err != nil || status != http.StatusOK {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, fmt.Sprint(status, " ", err))
				}
			}
		})
	}
	return l
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	for begun := time.Now(); l.asked.Load() < 200 && time.Since(begun) < patience; {
		time.Sleep(20 * time.Millisecond)
	}
	close(l.stopped)
	l.group.Wait()
	t.Logf("%d requests, %d failed", l.asked.Load(), l.failed.Load())
	if l.failed.Load() > 0 || l.asked.Load() < 200 {
		t.Errorf("%d of %d requests failed, the first with %v", l.failed.Load(), l.asked.Load(), l.first.Load())
	}
}

// balancer hands connections on to any of the replicas, as kube-proxy does: who is
// connected stays.
type balancer struct {
	listener net.Listener
	mutex    sync.Mutex
	replicas []string
}

func newBalancer(t *testing.T, replicas ...string) *balancer {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	b := &balancer{listener: listener, replicas: replicas}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go b.pass(from)
		}
	}()
	return b
}

func (b *balancer) set(replicas ...string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.replicas = replicas
}

func (b *balancer) pass(from net.Conn) {
	defer from.Close()
	b.mutex.Lock()
	address := b.replicas[mathrand.IntN(len(b.replicas))]
	b.mutex.Unlock()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(way[1], way[0])
			done <- struct{}{}
		}()
	}
	<-done
}

// TestRollingRestart restarts two replicas one after the other under load, where what
// sends requests to them learns of it a second late and nobody waits before SIGTERM.
func TestRollingRestart(t *testing.T) {
	l := newLifecycle(t)
	config := l.configure(t, "replica", "k1", "info", "")
	addressOf := func(p *process) string {
		return strings.TrimSuffix(strings.TrimPrefix(p.URL, "http://"), "/api/permission")
	}
	replicas := []*process{l.start(t, config), l.start(t, config)}
	b := newBalancer(t, addressOf(replicas[0]), addressOf(replicas[1]))
	load := startLoad(b.listener.Addr().String(), l.request)
	time.Sleep(300 * time.Millisecond)
	for i, old := range replicas {
		other := replicas[1-i]
		replicas[i] = l.start(t, config)
		must(t, old.command.Process.Signal(syscall.SIGTERM))
		time.Sleep(time.Second)
		if status, body := old.get(t, "/ready"); status != http.StatusServiceUnavailable || !strings.Contains(body, "ending") {
			t.Errorf("an ending replica is ready: %d %s", status, body)
		}
		b.set(addressOf(other), addressOf(replicas[i]))
		select {
		case <-old.exited:
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		if code := old.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("it ended with %d", code)
		}
	}
	load.stop(t)
}

// TestReload changes the log level and the keys under load, and then breaks the
// configuration. The service manager is told.
func TestReload(t *testing.T) {
	l := newLifecycle(t)
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(l.dir, "notify"), Net: "unixgram"})
	must(t, err)
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
	told := func(want string) {
		t.Helper()
		must(t, manager.SetReadDeadline(time.Now().Add(patience)))
		text := make([]byte, 1<<16)
		n, err := manager.Read(text)
		must(t, err)
		if !strings.HasPrefix(string(text[:n]), want) || strings.Count(string(text[:n]), "\n") > 1 {
			t.Errorf("the service manager is told %q, want %q", text[:n], want)
		}
	}
	config := l.configure(t, "reload", "k1", "info", "")
	p := l.start(t, config)
	told("READY=1\nSTATUS=serving")
	load := startLoad(strings.TrimSuffix(strings.TrimPrefix(p.URL, "http://"), "/api/permission"), l.request)
	eventually := func(what string, ask func() bool) {
		t.Helper()
		for begun := time.Now(); !ask(); time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatal(what)
			}
		}
	}
	keys := func() string {
		response, err := http.Get(p.URL + "/.backstage/auth/v1/jwks.json")
		must(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(t, err)
		return string(text)
	}
	if text := keys(); !strings.Contains(text, `"k1"`) {
		t.Fatal(text)
	}
	counts := func(successful, status string) {
		t.Helper()
		eventually("want "+successful+" and "+status, func() bool {
			_, metrics := p.get(t, "/metrics")
			_, told := p.get(t, "/status")
			return strings.Contains(metrics, "\nstagedoor_config_last_reload_successful "+successful+"\n") && strings.Contains(told, status)
		})
	}
	counts("1", `"configuration":{"read":"20`)
	l.configure(t, "reload", "k2", "debug", "opa: {labels: {zone: west}}")
	must(t, p.command.Process.Signal(syscall.SIGHUP))
	eventually("the keys did not change", func() bool { return strings.Contains(keys(), `"k2"`) })
	eventually("the level did not change", func() bool { return strings.Contains(p.text(), `"level":"debug"`) })
	told("STATUS=the configuration was read anew")
	counts("1", `"after_restart":["opa.labels.zone"]`)
	writeConfig(t, config, "stagedoor: {lisen: x}")
	must(t, p.command.Process.Signal(syscall.SIGHUP))
	told("STATUS=the configuration is refused, and the old one goes on: ")
	eventually("a bad configuration was not refused", func() bool {
		return strings.Contains(p.text(), "the configuration is refused, and the old one goes on")
	})
	if text := keys(); !strings.Contains(text, `"k2"`) {
		t.Error(text)
	}
	counts("0", `stagedoor.lisen: `)
	l.configure(t, "reload", "k2", "info", "")
	must(t, p.command.Process.Signal(syscall.SIGHUP))
	told("STATUS=the configuration was read anew")
	counts("1", `"configuration":{"read":"20`)
	if _, status := p.get(t, "/status"); strings.Contains(status, "refused") || strings.Contains(status, "after_restart") {
		t.Error(status)
	}
	load.stop(t)
}

// TestOperatorsTokenIsRotated changes the token as docs/operate/README.md says, and asks
// with the old one or the new one, whichever a client has, after each step.
func TestOperatorsTokenIsRotated(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "README.md"))
	must(t, err)
	_, list, found := strings.Cut(block(t, string(page), "yaml token"), "token: ")
	if !found {
		t.Fatal("no token")
	}
	const before, after = "0123456789abcdef", "fedcba9876543210"
	l := newLifecycle(t)
	config := l.configure(t, "token", "k1", "info", "")
	text, err := os.ReadFile(config)
	must(t, err)
	step := func(token string) {
		t.Helper()
		writeConfig(t, config, strings.Replace(string(text), `admin: {`, "admin: {token: "+strings.TrimSpace(token)+", ", 1))
	}
	writeConfig(t, filepath.Join(l.dir, "token"), before+"\n")
	step("{$file: token}")
	p := l.start(t, config)
	opens := func(token string) bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Admin+"/status", http.NoBody)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		must(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(t, err)
		return strings.Contains(string(text), "revision")
	}
	reload := func(old, renewed bool) {
		t.Helper()
		must(t, p.command.Process.Signal(syscall.SIGHUP))
		for begun := time.Now(); opens(before) != old || opens(after) != renewed; time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatalf("old %v, new %v", opens(before), opens(after))
			}
		}
	}
	if !opens(before) || opens(after) {
		t.Error("the first token")
	}
	writeConfig(t, filepath.Join(l.dir, "token-old"), before+"\n")
	writeConfig(t, filepath.Join(l.dir, "token"), after+"\n")
	step(list)
	reload(true, true)
	step("{$file: token}")
	reload(false, true)
	writeConfig(t, filepath.Join(l.dir, "token"), "")
	must(t, p.command.Process.Signal(syscall.SIGHUP))
	for begun := time.Now(); !strings.Contains(p.text(), "stagedoor.admin.token: there was one"); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatal("an empty token was not refused")
		}
	}
	reload(false, true)
}

// TestPanicOfAReload holds that a configuration that panics is one that is refused.
func TestPanicOfAReload(t *testing.T) {
	c, err := carefully(func() (*config.Config, error) { panic("secret") })
	if c != nil || err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v %v", c, err)
	}
}

// TestStandardErrorIsGone has nobody take the log, in three ways: good and bad requests
// are answered, and SIGTERM ends the process in time.
func TestStandardErrorIsGone(t *testing.T) {
	l := newLifecycle(t)
	for name, open := range map[string]func() (write, read *os.File){
		"blocked": func() (write, read *os.File) {
			read, write, err := os.Pipe()
			must(t, err)
			return write, read
		},
		"closed": func() (write, read *os.File) {
			read, write, err := os.Pipe()
			must(t, err)
			must(t, read.Close())
			return write, nil
		},
		"full": func() (write, read *os.File) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			must(t, err)
			return full, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := l.configure(t, name, "k1", "debug", "")
			address := fixture.Address(t)
			text, err := os.ReadFile(config)
			must(t, err)
			writeConfig(t, config, strings.Replace(strings.Replace(string(text), `listen: "127.0.0.1:0"`, fmt.Sprintf("listen: %q", address), 1),
				"serverShutdownDelay: "+shutdownDelay.String(), "serverShutdownDelay: 0s", 1))
			command := exec.CommandContext(t.Context(), l.binary, "serve", "--config", config)
			write, read := open()
			command.Stderr = write
			must(t, command.Start())
			must(t, write.Close())
			if read != nil {
				defer read.Close()
			}
			exited := make(chan struct{})
			go func() { _ = command.Wait(); close(exited) }()
			s := &speaker{address: address}
			for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				if status, err := s.ask(l.request); err == nil && status == http.StatusOK {
					break
				}
				if time.Since(begun) > patience {
					t.Fatal("it does not serve")
				}
			}
			// More than a pipe holds, of each level.
			for range 600 {
				if status, err := s.ask(l.request); err != nil || status != http.StatusOK {
					t.Fatalf("a good request: %d %v", status, err)
				}
				if status, err := s.ask(l.bad); err != nil || status != http.StatusUnauthorized {
					t.Fatalf("a bad request: %d %v", status, err)
				}
			}
			s.close()
			must(t, command.Process.Signal(syscall.SIGTERM))
			select {
			case <-exited:
			case <-time.After(patience):
				t.Error("it does not end")
				must(t, command.Process.Kill())
				<-exited
			}
			if code := command.ProcessState.ExitCode(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
		})
	}
}

// TestFewFiles has 200 idle connections where 128 files may be open: new requests are
// all answered, at both addresses.
func TestFewFiles(t *testing.T) {
	l := newLifecycle(t)
	w := &persistence{binary: filepath.Join(l.dir, "few"), config: l.configure(t, "few", "k1", "info", "")}
	writeConfig(t, w.binary, fmt.Sprintf("#!/bin/sh\nulimit -n 128\nexec %q \"$@\"\n", l.binary))
	must(t, os.Chmod(w.binary, 0o700))
	p := w.start(t)
	address := strings.TrimSuffix(strings.TrimPrefix(p.URL, "http://"), "/api/permission")
	for i := range 200 {
		to := address
		if i%4 == 0 {
			to = strings.TrimPrefix(p.Admin, "http://")
		}
		c, err := net.DialTimeout("tcp", to, patience)
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		if i%2 == 0 { // it asks once, and stays
			_, _ = c.Write(l.request)
		}
	}
	for range 50 {
		s := &speaker{address: address}
		if status, err := s.ask(l.request); err != nil || status != http.StatusOK {
			t.Fatalf("%d %v", status, err)
		}
		s.close()
		if status, _ := p.get(t, "/ready"); status != http.StatusOK {
			t.Fatalf("/ready: %d", status)
		}
	}
}

// TestStops ends the process by each signal, with and without requests under way.
func TestStops(t *testing.T) {
	l := newLifecycle(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := l.start(t, l.configure(t, "stops", "k1", "info", ""))
		began := time.Now()
		must(t, p.command.Process.Signal(signal))
		<-p.exited
		took, code := time.Since(began), p.command.ProcessState.ExitCode()
		if late := signal == syscall.SIGTERM; code != 0 || late != (took >= shutdownDelay) {
			t.Errorf("%v: ended with %d after %v", signal, code, took)
		}
	}
	p := l.start(t, l.configure(t, "stops", "k1", "info", ""))
	must(t, p.command.Process.Signal(syscall.SIGTERM))
	for running := true; running; {
		select {
		case <-p.exited:
			running = false
		case <-time.After(50 * time.Millisecond):
			_ = p.command.Process.Signal(syscall.SIGTERM) // a second one ends it at once
		}
	}
	if p.command.ProcessState.ExitCode() == 0 {
		t.Error("the second signal did not end it")
	}
}

// TestConnectionsByFiles bounds both addresses below the limit of open files.
func TestConnectionsByFiles(t *testing.T) {
	for _, c := range []struct{ asked, files, api, admin int }{
		{10_000, 1 << 30, 10_000, 500}, {10_000, 128, 74, 10}, {10_000, 1024, 597, 85}, {50, 1 << 20, 50, 500}, {10_000, 16, 6, 4},
	} {
		api, admin := connections(c.asked, 500, c.files)
		if api != c.api || admin != c.admin {
			t.Errorf("%d asked and %d files: %d and %d, want %d and %d", c.asked, c.files, api, admin, c.api, c.admin)
		}
	}
}
