//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// lives are the rows about starting, reloading and ending.
func lives() []row {
	all := []row{
		{name: "rolling restart", what: "two replicas under load, endpoints a second late, no wait before SIGTERM", alone: true, short: true, run: rollingRestart},
		{name: "reload", what: "SIGHUP under load: level and keys change, a bad configuration is refused", alone: true, short: true, run: reload},
	}
	for _, how := range []string{"blocked", "closed", "full"} {
		all = append(all, row{
			name: "standard error " + how, what: "good and bad requests, and SIGTERM", short: how == "blocked",
			run: func(ctx context.Context, r *rig) ([]figure, error) { return standardError(ctx, r, how) },
		})
	}
	return all
}

// keys is a configuration with static keys of the ids, of which the first signs. What is
// not there is made.
func (r *rig) keys(ids ...string) (sections, error) {
	var all []any
	for _, id := range ids {
		name := filepath.Join(r.dir, id)
		if _, err := os.Stat(name + ".key"); err != nil {
			if err := newKeyFiles(name); err != nil {
				return nil, err
			}
		}
		all = append(all, sections{"keyId": id, "publicKeyFile": name + ".pem", "privateKeyFile": name + ".key"})
	}
	return sections{"backend": sections{"auth": sections{"pluginKeyStore": sections{"type": "static", "static": sections{"keys": all}}}}}, nil
}

// newKeyFiles makes a pair of keys in files of a name.
func newKeyFiles(name string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return err
	}
	files := map[string]*pem.Block{".key": {Type: "PRIVATE KEY", Bytes: der}, ".pem": {Type: "PUBLIC KEY", Bytes: public}}
	for ending, block := range files {
		if err := os.WriteFile(name+ending, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// balancer hands connections on to any of the replicas that are ready, as kube-proxy
// does: who is connected stays.
type balancer struct {
	address  string
	mutex    sync.Mutex
	replicas []*door
}

// newBalancer listens at the rig's address.
func (r *rig) newBalancer(ctx context.Context) (*balancer, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.address)
	if err != nil {
		return nil, err
	}
	r.later(func() { _ = listener.Close() })
	b := &balancer{address: r.address}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go b.pass(from)
		}
	}()
	return b, nil
}

func (b *balancer) set(replicas ...*door) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.replicas = replicas
}

func (b *balancer) pass(from net.Conn) {
	defer from.Close()
	b.mutex.Lock()
	replicas := b.replicas
	b.mutex.Unlock()
	if len(replicas) == 0 {
		return
	}
	to, err := net.Dial("tcp", replicas[mathrand.IntN(len(replicas))].address)
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

// follow keeps to the replicas that were ready a while ago, as probes find it.
func (b *balancer) follow(ctx context.Context, late time.Duration, replicas func() []*door) {
	for ctx.Err() == nil {
		var ready []*door
		for _, d := range replicas() {
			if d.isReady(ctx) {
				ready = append(ready, d)
			}
		}
		_ = wait(ctx, late)
		b.set(ready...)
	}
}

// replica is the configuration of one of several.
var replica = sections{
	"backend":   sections{"lifecycle": sections{"serverShutdownDelay": "2s"}},
	"stagedoor": sections{"listen": "127.0.0.1:0"},
}

func rollingRestart(ctx context.Context, r *rig) ([]figure, error) {
	b, err := r.newBalancer(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := r.keys("k1")
	if err != nil {
		return nil, err
	}
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	more = merged(merged(more, keys), replica)
	var replicas [2]*door
	for n := range replicas {
		if replicas[n], err = r.ready(ctx, more); err != nil {
			return nil, err
		}
	}
	b.set(replicas[:]...)
	c, questions := r.client(b.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	l := c.startLoad(ctx, questions, 3, 10*time.Millisecond)
	defer l.end()
	for n, old := range replicas {
		ended := make(chan error, 1)
		go func() {
			_, err := old.terminate(45 * time.Second)
			ended <- err
		}()
		if replicas[n], err = r.ready(ctx, more); err != nil {
			return nil, err
		}
		if err := wait(ctx, time.Second); err != nil { // so late it is told where to send requests
			return nil, err
		}
		b.set(replicas[:]...)
		if err := <-ended; err != nil {
			return nil, err
		}
	}
	l.end()
	return withWhy(l.tally), nil
}

// withWhy are the figures of a tally, with what was said of failures.
func withWhy(t *tally) []figure {
	figures := t.figures()
	if said := t.said(); said != "" {
		figures[len(figures)-1].got += "\n    " + said
	}
	return figures
}

func reload(ctx context.Context, r *rig) ([]figure, error) {
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	var configured [2]sections
	// The other key signs, and the one before verifies what is on its way.
	for n, ids := range [][]string{{"k1", "k2"}, {"k2", "k1"}} {
		keys, err := r.keys(ids...)
		if err != nil {
			return nil, err
		}
		level := sections{"stagedoor": sections{"log": sections{"level": []string{"info", "debug"}[n]}}}
		configured[n] = merged(merged(more, keys), level)
	}
	file, err := r.configure(configured[0])
	if err != nil {
		return nil, err
	}
	d, err := r.serve(ctx, exec.Command(r.binary, "serve", "--config", file))
	if err != nil {
		return nil, err
	}
	c, questions := r.client(d.address), r.askWell()
	if err := c.first(ctx, questions); err != nil {
		return nil, err
	}
	l := c.startLoad(ctx, questions, 2, 10*time.Millisecond)
	defer l.end()
	// signs reports whether a key has come to be the one that signs, which is published first.
	signs := func(id string) bool {
		_, text, _ := fetch(ctx, d.URL+"/.backstage/auth/v1/jwks.json")
		var set struct{ Keys []struct{ Kid string } }
		return json.Unmarshal([]byte(text), &set) == nil && len(set.Keys) > 0 && set.Keys[0].Kid == id
	}
	// Back and forth, and with a broken one between.
	changed := true
	for n := range 4 {
		other, err := r.configure(configured[1-n%2])
		if err != nil {
			return nil, err
		}
		if err := os.Rename(other, file); err != nil {
			return nil, err
		}
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return nil, err
		}
		wanted := []string{"k2", "k1"}[n%2]
		begun := time.Now()
		for !signs(wanted) && time.Since(begun) < 10*time.Second {
			_ = wait(ctx, 20*time.Millisecond)
		}
		changed = changed && signs(wanted)
		if err := os.WriteFile(file, []byte("stagedoor: {lisen: x}"), 0o600); err != nil {
			return nil, err
		}
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return nil, err
		}
		_ = wait(ctx, r.duration/4)
		changed = changed && signs(wanted)
	}
	l.end()
	log, err := os.ReadFile(d.log)
	return append(withWhy(l.tally),
		figure{what: "keys changed, and stayed where it was refused", got: strconv.FormatBool(changed), want: "true", ok: changed},
		figure{what: "level changed", got: strconv.FormatBool(bytes.Contains(log, []byte(`"level":"debug"`))), want: "true",
			ok: bytes.Contains(log, []byte(`"level":"debug"`))},
		figure{what: "refused", got: strconv.Itoa(bytes.Count(log, []byte("the configuration is refused"))), want: "4",
			ok: bytes.Count(log, []byte("the configuration is refused")) == 4},
	), err
}

// standardError has nobody take the log, in one of three ways.
func standardError(ctx context.Context, r *rig, how string) ([]figure, error) {
	more, err := r.policyFolder()
	if err != nil {
		return nil, err
	}
	file, err := r.configure(merged(more, sections{"stagedoor": sections{"log": sections{"level": "debug"}}}))
	if err != nil {
		return nil, err
	}
	command := exec.Command(r.binary, "serve", "--config", file)
	var write *os.File
	if how == "full" {
		if write, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
			return nil, err
		}
	} else {
		var read *os.File
		if read, write, err = os.Pipe(); err != nil {
			return nil, err
		}
		if how == "closed" {
			err = read.Close()
		} else {
			r.later(func() { _ = read.Close() }) // which nobody reads
		}
		if err != nil {
			return nil, err
		}
	}
	command.Stderr = write
	p, err := r.start("stagedoor", command)
	if err != nil {
		return nil, err
	}
	if err := write.Close(); err != nil {
		return nil, err
	}
	c, questions := r.client(r.address), r.askWell()
	good, forged := questions[0], questions[len(questions)-1]
	err = p.until(ctx, "serves", func() bool { v, _, _ := c.put(ctx, good); return v == same })
	if err != nil {
		return nil, err
	}
	t := &tally{}
	for range 600 { // more than a pipe holds
		for _, q := range []*question{good, forged} {
			v, took, said := c.put(ctx, q)
			t.add(v, took, said, false)
		}
	}
	c.http.CloseIdleConnections()
	took, err := p.terminate(20 * time.Second)
	end := figure{what: "ends after SIGTERM", got: fmt.Sprintf("%.1f s", took.Seconds()), want: "≤ 10 s", ok: err == nil && took <= 10*time.Second}
	if err != nil {
		end.got = err.Error()
	}
	return append(withWhy(t), atMost("slowest", t.percentile(100), r.patience(2*time.Second)), end), nil
}
