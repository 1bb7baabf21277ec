//go:build linux

package main

import (
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
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// transports are the rows about connections, and about time.
func transports() []row {
	return []row{
		{name: "garbage", what: "a minute of garbage and good traffic over TLS, mTLS, h2, h2c and h1", alone: true, short: true, run: garbage},
		{name: "busy", what: "p99 of one, 16 connections, beside four busy loops, against the verifying floor", alone: true, run: busy},
	}
}

// authority makes certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func (r *rig) newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, file: filepath.Join(r.dir, name+".pem")}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return a, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

// issue makes a certificate for loopback, in files.
func (a *authority) issue(r *rig, name string) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return "", "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(r.dir, name+".crt"), filepath.Join(r.dir, name+".key")
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return certFile, keyFile, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// garbage sends what makes no sense, and good traffic beside it, in every way in which
// stagedoor can be spoken to.
func garbage(ctx context.Context, r *rig) ([]figure, error) {
	length := time.Minute
	if r.short {
		length = 4 * time.Second
	}
	ours, err := r.newAuthority("ours")
	if err != nil {
		return nil, err
	}
	theirs, err := r.newAuthority("theirs")
	if err != nil {
		return nil, err
	}
	serverCert, serverKey, err := ours.issue(r, "server")
	if err != nil {
		return nil, err
	}
	pair := func(a *authority, name string) (tls.Certificate, error) {
		cert, key, err := a.issue(r, name)
		if err != nil {
			return tls.Certificate{}, err
		}
		return tls.LoadX509KeyPair(cert, key)
	}
	good, err := pair(ours, "client")
	if err != nil {
		return nil, err
	}
	foreign, err := pair(theirs, "foreign")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ours.certificate)
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	keys, err := r.keys("k1")
	if err != nil {
		return nil, err
	}
	more = merged(merged(more, keys), sections{"stagedoor": sections{"log": sections{"level": "error"}}})
	overTLS := sections{"stagedoor": sections{"tls": sections{"certFile": serverCert, "keyFile": serverKey}}}
	mutual := merged(overTLS, sections{"stagedoor": sections{"listen": "127.0.0.1:0", "tls": sections{"clientCAFile": ours.file}}})
	plain := sections{"stagedoor": sections{"listen": "127.0.0.1:0", "h2c": true}}
	// One of them is where plugins have the keys from. All have the same.
	var doors []*door
	for _, one := range []sections{overTLS, mutual, plain} {
		// The log says errors alone, so that garbage does not fill it; where it serves is in
		// a line of information.
		d, err := r.ready(ctx, merged(merged(more, one), sections{"stagedoor": sections{"log": sections{"level": "info"}}}))
		if err != nil {
			return nil, err
		}
		doors = append(doors, d)
	}
	config := func(certificates ...tls.Certificate) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: certificates}
	}
	ways := []struct {
		name   string
		door   *door
		client *client
	}{
		{"TLS, h1", doors[0], r.clientOver(doors[0], config(), false)},
		{"TLS, h2", doors[0], r.clientOver(doors[0], config(), true)},
		{"mTLS, h1", doors[1], r.clientOver(doors[1], config(good), false)},
		{"mTLS, h2", doors[1], r.clientOver(doors[1], config(good), true)},
		{"h1", doors[2], r.clientOver(doors[2], nil, false)},
		{"h2c", doors[2], r.clientOver(doors[2], nil, true)},
	}
	// What is not about a plugin: the sample has the keys of one address, which speaks TLS.
	var questions []*question
	for _, q := range r.askWell() {
		if !strings.HasPrefix(q.name, "applied") {
			questions = append(questions, q)
		}
	}
	var loads []*load
	defer func() {
		for _, l := range loads {
			l.end()
		}
	}()
	for _, way := range ways {
		if err := way.client.first(ctx, questions); err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		loads = append(loads, way.client.startLoad(ctx, questions, 1, 20*time.Millisecond))
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var sent, let atomic.Int64
	token, err := r.backstage.PluginToken(alice)
	if err != nil {
		return nil, err
	}
	for n, d := range doors {
		for range 3 {
			group.Go(func() {
				for wait(ctx, time.Duration(mathrand.IntN(10))*time.Millisecond) == nil {
					var secure *tls.Config
					if n < 2 {
						secure = config()
					}
					if n == 1 && mathrand.IntN(2) == 0 {
						secure = config(foreign) // which must not be let in
					}
					if throwAt(ctx, d.address, secure, token) {
						let.Add(1)
					}
					sent.Add(1)
				}
			})
		}
	}
	// What is remembered has filled after the first quarter.
	if err := wait(ctx, length/4); err != nil {
		return nil, err
	}
	type mark struct{ rss, goroutines float64 }
	look := func() (marks []mark, err error) {
		for _, d := range doors {
			now, _, err := d.resident()
			if err != nil {
				return nil, err
			}
			goroutines, err := d.metric(ctx, "go_goroutines", "")
			if err != nil {
				return nil, err
			}
			marks = append(marks, mark{float64(now) / (1 << 20), goroutines})
		}
		return marks, nil
	}
	before, err := look()
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, length*3/4); err != nil {
		return nil, err
	}
	after, err := look()
	if err != nil {
		return nil, err
	}
	cancel()
	group.Wait()
	all := &tally{}
	for n, l := range loads {
		l.end()
		all.requests, all.wrong, all.unlike, all.bad = all.requests+l.requests, all.wrong+l.wrong, all.unlike+l.unlike, all.bad+l.bad
		if said := l.said(); said != "" {
			all.first = map[string]int{ways[n].name + ": " + said: 1}
		}
		if l.requests == 0 {
			return nil, fmt.Errorf("%s: nothing was asked", ways[n].name)
		}
	}
	figures := append(withWhy(all), figure{what: "pieces of garbage", got: strconv.FormatInt(sent.Load(), 10), want: "many", ok: sent.Load() > 0},
		figure{what: "garbage answered with 200", got: strconv.FormatInt(let.Load(), 10), want: "0", ok: let.Load() == 0})
	for n, name := range []string{"TLS", "mTLS", "plain"} {
		figures = append(figures,
			figure{what: name + ": resident MB at a quarter, at the end", got: fmt.Sprintf("%.0f, %.0f", before[n].rss, after[n].rss),
				want: "flat", ok: after[n].rss <= before[n].rss*1.25+10},
			figure{what: name + ": goroutines", got: fmt.Sprintf("%.0f, %.0f", before[n].goroutines, after[n].goroutines),
				want: "flat", ok: after[n].goroutines <= before[n].goroutines*1.5+30})
	}
	return figures, nil
}

// clientOver asks a stagedoor over TLS or not, by HTTP/2 or 1.
func (r *rig) clientOver(d *door, config *tls.Config, two bool) *client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two && config != nil)
	protocols.SetUnencryptedHTTP2(two && config == nil)
	transport := &http.Transport{TLSClientConfig: config, Protocols: protocols, MaxIdleConnsPerHost: 100}
	r.later(transport.CloseIdleConnections)
	return &client{&http.Client{Transport: transport, Timeout: 20 * time.Second}, d.URL + "/authorize"}
}

// throwAt sends one piece of garbage, and reports whether it was answered with 200.
func throwAt(ctx context.Context, address string, secure *tls.Config, token string) bool {
	raw, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(500 * time.Millisecond))
	connection := raw
	kind := mathrand.IntN(9)
	if secure != nil && kind > 1 {
		secure = secure.Clone()
		secure.ServerName = "127.0.0.1"
		if kind == 8 {
			secure.NextProtos = []string{"h2"}
		}
		over := tls.Client(raw, secure)
		if over.HandshakeContext(ctx) != nil {
			return false
		}
		connection = over
	}
	const path = "/api/permission/authorize"
	var text string
	switch kind {
	case 0: // in place of a handshake too
		text = string(noise())
	case 1: // a handshake that stops
		text = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	case 2:
		text = "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + string(noise())
	case 3:
		text = "GET " + strings.Repeat("/x", 1000+mathrand.IntN(100_000)) + " HTTP/1.1\r\n\r\n"
	case 4:
		text = "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + token +
			"\r\nContent-Length: 2000\r\n\r\n" + string(noise())
	case 5:
		text = "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token[:len(token)-6] + "AAAAAA" + "\r\nContent-Length: 12\r\n\r\n" + `{"items":[]}`
	case 6:
		text = "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n continued\r\nContent-Length: 99999999999999\r\n\r\n"
	case 7:
		text = "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n{" // and no more
	case 8: // HTTP/2, and then noise
		text = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + string(noise())
	}
	if _, err := io.WriteString(connection, text); err != nil {
		return false
	}
	answer, _ := io.ReadAll(io.LimitReader(connection, 200))
	return strings.HasPrefix(string(answer), "HTTP/1.1 200")
}

// busy measures stagedoor and the floor by turns, where other processes want the
// processors.
func busy(ctx context.Context, r *rig) ([]figure, error) {
	const connections, rounds, loops, most = 16, 7, 4, 1.5
	slice := max(r.duration/2, time.Second)
	d, err := r.ready(ctx, sections{})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&r.backstage.PluginKey.Private.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(r.dir, "plugin.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	printed, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer printed.Close()
	command := exec.Command(r.bench, "floor", r.dir)
	command.Stdout = out
	if _, err := r.start("floor", command); err != nil {
		return nil, err
	}
	_ = out.Close()
	line := make([]byte, 100)
	n, err := printed.Read(line)
	if err != nil {
		return nil, err
	}
	floor := strings.TrimPrefix(strings.TrimSpace(string(line[:n])), "http://")
	limited, err := r.backstage.LimitedToken(alice)
	if err != nil {
		return nil, err
	}
	body := `{"items":[{"id":"1","permission":{"type":"basic","name":"catalog.location.read","attributes":{"action":"read"}}}]}`
	measure := func(address string) (*tally, error) {
		requests := make([][]byte, 12_000)
		var signers sync.WaitGroup
		var refused atomic.Value
		for w := range runtime.NumCPU() {
			signers.Go(func() {
				for n := w; n < len(requests); n += runtime.NumCPU() {
					token, err := r.backstage.OnBehalfOf(limited)
					if err != nil {
						refused.Store(err)
						return
					}
					requests[n] = raw(token, body)
				}
			})
		}
		signers.Wait()
		if err, is := refused.Load().(error); is {
			return nil, err
		}
		t := &tally{}
		var group sync.WaitGroup
		var next atomic.Int64
		begun := time.Now()
		for range connections {
			group.Go(func() {
				s := &speaker{address: address}
				defer s.close()
				for time.Since(begun) < slice {
					n := int(next.Add(1)) - 1
					if n >= len(requests) {
						return
					}
					asked := time.Now()
					status, text, err := s.ask(requests[n])
					v := same
					if err != nil || status != http.StatusOK || !strings.Contains(string(text), `"ALLOW"`) {
						v = failed
					}
					t.add(v, time.Since(asked), fmt.Sprintf("%d %v %.100s", status, err, text), false)
				}
			})
		}
		group.Wait()
		return t, nil
	}
	for _, address := range []string{d.address, floor} {
		if _, err := measure(address); err != nil { // which warms it up
			return nil, err
		}
	}
	for range loops {
		if _, err := r.start("busy", exec.Command("sh", "-c", "while :; do :; done")); err != nil {
			return nil, err
		}
	}
	var ratios, ours, floors []float64
	all := &tally{}
	for range rounds {
		a, err := measure(d.address)
		if err != nil {
			return nil, err
		}
		b, err := measure(floor)
		if err != nil {
			return nil, err
		}
		ours, floors = append(ours, a.percentile(99).Seconds()*1e3), append(floors, b.percentile(99).Seconds()*1e3)
		ratios = append(ratios, a.percentile(99).Seconds()/b.percentile(99).Seconds())
		all.requests, all.bad, all.first = all.requests+a.requests+b.requests, all.bad+a.bad+b.bad, a.first
	}
	ratio := median(ratios)
	return append(withWhy(all),
		figure{what: "p99, median of rounds", got: fmt.Sprintf("%.1f ms", median(ours)), want: "–", ok: true},
		figure{what: "p99 of the floor", got: fmt.Sprintf("%.1f ms", median(floors)), want: "–", ok: true},
		figure{what: "ratio, median of rounds", got: fmt.Sprintf("%.2f × (%.2f)", ratio, ratios), want: fmt.Sprintf("≤ %.1f ×", most), ok: ratio <= most},
	), nil
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
