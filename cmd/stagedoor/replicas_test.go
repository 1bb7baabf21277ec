//go:build deploy

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

// replicas are three stagedoors behind haproxy, with a policy from Debian's registry.
type replicas struct {
	*lifecycle
	registry string // host:port
	proxy    string // host:port
	folder   string // of the policy
	running  []*process
	configs  []string
	addresses,
	admins []string
}

const numberOfReplicas = 3

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{proxy: fixture.Address(t), registry: fixture.Address(t)}
	r.lifecycle = newLifecycleAt(t, "http://"+r.proxy+"/api/permission")
	r.binary = built(t)
	r.folder = filepath.Join(r.dir, "policy")
	must(t, os.Mkdir(r.folder, 0o750))
	writeConfig(t, filepath.Join(r.folder, "policy.rego"), doorPolicy)
	writeConfig(t, filepath.Join(r.dir, "registry.yaml"), fmt.Sprintf(
		"version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nlog: {level: error}\n",
		filepath.Join(r.dir, "registry"), r.registry))
	r.run(t, "http://"+r.registry+"/v2/", "docker-registry", "serve", filepath.Join(r.dir, "registry.yaml"))
	r.publish(t, "1")
	for n := range numberOfReplicas {
		r.addresses = append(r.addresses, fixture.Address(t))
		r.admins = append(r.admins, fixture.Address(t))
		config := filepath.Join(r.dir, fmt.Sprintf("replica%d.yaml", n))
		writeConfig(t, config, fmt.Sprintf(`
backend:
  baseUrl: %q
  lifecycle: {serverShutdownDelay: 2s}
  auth: {pluginKeyStore: {type: static, static: {keys: [{keyId: k1, publicKeyFile: %q, privateKeyFile: %q}]}}}
stagedoor: {listen: %q, admin: {listen: %q}}
opa:
  services: {registry: {url: "http://%s", type: oci}}
  bundles: {door: {service: registry, resource: "%s/policies/door:live", persist: true, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}
  persistence_directory: %q
`, r.backstage.URL, filepath.Join(r.dir, "k1.pem"), filepath.Join(r.dir, "k1.key"), r.addresses[n], r.admins[n],
			r.registry, r.registry, filepath.Join(r.dir, fmt.Sprintf("state%d", n))))
		r.configs = append(r.configs, config)
		r.running = append(r.running, r.start(t, config))
	}
	r.serve(t, "1")
	return r
}

// run runs a server that ends with the test, and waits until the URL answers.
func (r *replicas) run(t *testing.T, url, program string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(program, args...)
	log, err := os.Create(filepath.Join(r.dir, program+".log"))
	must(t, err)
	command.Stdout, command.Stderr = log, log
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		_ = log.Close()
	})
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(url)
		if err == nil {
			_ = response.Body.Close()
			return command
		}
		if time.Since(begun) > patience {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%s: %v\n%s", program, err, text)
		}
	}
}

// balance starts haproxy before the first of the replicas, as the manual has it.
func (r *replicas) balance(t *testing.T, n int) *exec.Cmd {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "scaling.md"))
	must(t, err)
	config := block(t, string(page), "haproxy")
	head, _, found := strings.Cut(config, "    server ")
	if !found {
		t.Fatal("no server in it")
	}
	config = strings.Replace(head, "bind :7008", "bind "+r.proxy, 1)
	for i := range n {
		_, port, _ := strings.Cut(r.admins[i], ":")
		config += fmt.Sprintf("    server replica%d %s check port %s\n", i, r.addresses[i], port)
	}
	file := filepath.Join(r.dir, "haproxy.cfg")
	writeConfig(t, file, config)
	return r.run(t, "http://"+r.proxy+"/api/permission/health", "haproxy", "-db", "-f", file)
}

// publish has the policy of that revision in the registry, under the tag live.
func (r *replicas) publish(t *testing.T, revision string) {
	t.Helper()
	writeConfig(t, filepath.Join(r.folder, ".manifest"), fmt.Sprintf(`{"revision": %q, "roots": ["door"]}`, revision))
	store := memory.New()
	layer, err := oras.PushBytes(t.Context(), store, ocispec.MediaTypeImageLayerGzip, bundleOf(t, r.folder))
	must(t, err)
	image, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, "application/vnd.unknown.artifact.v1",
		oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	must(t, err)
	must(t, store.Tag(t.Context(), image, "live"))
	repository, err := remote.NewRepository(r.registry + "/policies/door")
	must(t, err)
	repository.PlainHTTP = true
	_, err = oras.Copy(t.Context(), store, "live", repository, "live", oras.DefaultCopyOptions)
	must(t, err)
}

// serve waits until every replica serves the revision, and returns how long that took.
func (r *replicas) serve(t *testing.T, revision string) time.Duration {
	t.Helper()
	begun := time.Now()
	for _, p := range r.running {
		for serving, why := p.serving(t); serving != revision; serving, why = p.serving(t) {
			if time.Since(begun) > patience {
				t.Fatalf("it serves %q and refused %q", serving, why)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return time.Since(begun)
}

// TestDeploymentBehindProxy brings a new policy and then restarts one replica after the
// other, all under load that goes through haproxy. No request fails.
func TestDeploymentBehindProxy(t *testing.T) {
	r := newReplicas(t)
	r.balance(t, numberOfReplicas)
	token, err := r.backstage.PluginToken("user:default/alice")
	must(t, err)
	load := startLoad(r.proxy, asking(token, itemList+","+itemUpdate))
	time.Sleep(300 * time.Millisecond)
	r.publish(t, "2")
	t.Logf("a new policy served everywhere after %v", r.serve(t, "2").Round(10*time.Millisecond))
	for n, old := range r.running {
		begun := time.Now()
		must(t, old.command.Process.Signal(syscall.SIGTERM))
		<-old.exited
		if code := old.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("replica %d ended with %d", n, code)
		}
		r.running[n] = r.start(t, r.configs[n])
		for status := 0; status != http.StatusOK; time.Sleep(50 * time.Millisecond) {
			status, _ = r.running[n].get(t, "/ready")
		}
		t.Logf("replica %d was restarted in %v", n, time.Since(begun).Round(10*time.Millisecond))
		time.Sleep(1500 * time.Millisecond) // until haproxy has seen it
	}
	r.serve(t, "2")
	load.stop(t)
}

// TestThroughputBehindProxy says what one, two and three replicas carry. It fails where
// any request does; the figures are for reading.
func TestThroughputBehindProxy(t *testing.T) {
	r := newReplicas(t)
	token, err := r.backstage.PluginToken("user:default/alice")
	must(t, err)
	for n := 1; n <= numberOfReplicas; n++ {
		proxy := r.balance(t, n)
		r.fire(asking(token, itemList), 300*time.Millisecond)
		before, through := r.cpu(t, n), cpuOf(t, proxy.Process.Pid)
		const length = 3 * time.Second
		asked, failed := r.fire(asking(token, itemList), length)
		if failed > 0 {
			t.Errorf("%d of %d requests failed", failed, asked)
		}
		t.Logf("%d replicas: %.0f requests a second; a request takes %.3f ms of processor time in stagedoor and %.3f ms in haproxy",
			n, float64(asked)/length.Seconds(), ms(r.cpu(t, n)-before, asked), ms(cpuOf(t, proxy.Process.Pid)-through, asked))
		must(t, proxy.Process.Kill())
		_ = proxy.Wait()
	}
}

// fire asks as fast as it is answered, over 32 connections.
func (r *replicas) fire(request []byte, length time.Duration) (asked, failed int64) {
	var all, bad atomic.Int64
	var group sync.WaitGroup
	end := time.Now().Add(length)
	for range 32 {
		group.Go(func() {
			s := &speaker{address: r.proxy}
			defer s.close()
			for time.Now().Before(end) {
				all.Add(1)
				if status, err := s.ask(request); err != nil || status != http.StatusOK {
					bad.Add(1)
				}
			}
		})
	}
	group.Wait()
	return all.Load(), bad.Load()
}

func ms(took time.Duration, requests int64) float64 {
	return float64(took.Microseconds()) / 1000 / float64(requests)
}

func (r *replicas) cpu(t *testing.T, n int) (sum time.Duration) {
	t.Helper()
	for _, p := range r.running[:n] {
		sum += cpuOf(t, p.command.Process.Pid)
	}
	return sum
}

// cpuOf is the processor time that a process has used (proc(5)).
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	must(t, err)
	system, err := strconv.Atoi(fields[12])
	must(t, err)
	return time.Duration(user+system) * time.Second / 100
}
