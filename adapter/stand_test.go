package adapter_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const askBasic = `{"items":[{"id":"1","permission":{"type":"basic","name":"a","attributes":{"action":"read"}}}]}`

// A plugin that hangs takes nothing from those who do not ask about it, and so does an
// auth backend from those whom it need not be asked about. In each case more requests
// wait than there are slots, and are sent by the same plugin as the victim's.
func TestHungNeighbours(t *testing.T) {
	for _, hung := range []string{"todo", "auth"} {
		t.Run(hung, func(t *testing.T) {
			t.Parallel()
			const slots, waiting = 20, 60
			var plugin *gate
			site := newSite(t, siteOptions{inFlight: slots, between: func(backstage string) map[string]string {
				plugin = newGate(t, backstage+"/api/"+hung)
				return map[string]string{hung: plugin.URL}
			}})
			victim, err := site.backstage.PluginToken("user:default/victim")
			check(t, err)
			if status, body := site.post(t, victim, askBasic); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			var arrived atomic.Int64
			plugin.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				arrived.Add(1)
				slow(w, r, nil)
			})
			var done sync.WaitGroup
			t.Cleanup(done.Wait)
			t.Cleanup(site.client.CloseIdleConnections)
			flood := &http.Client{Timeout: 8 * time.Second}
			for n := range waiting {
				token, err := site.backstage.PluginToken(fmt.Sprintf("user:default/u%d", n))
				check(t, err)
				done.Go(func() {
					request, err := http.NewRequest(http.MethodPost, site.url+"/authorize", strings.NewReader(askUpdate))
					if err != nil {
						t.Error(err)
						return
					}
					request.Header.Set("Content-Type", "application/json")
					request.Header.Set("Authorization", "Bearer "+token)
					if response, err := flood.Do(request); err == nil {
						response.Body.Close()
						if response.StatusCode < 500 {
							t.Errorf("the hung plugin has answered: %d", response.StatusCode)
						}
					}
				})
			}
			await(t, "many wait for the plugin", func() bool { return arrived.Load() >= slots/2 })
			for n := range 20 {
				if status, body := site.post(t, victim, askBasic); status != http.StatusOK {
					t.Fatalf("try %d: %d %s", n, status, body)
				}
			}
		})
	}
}

// largePolicy answers one permission with about so many bytes of conditions.
func largePolicy(t *testing.T, size int) string {
	return writeBundle(t, map[string]string{".manifest": manifest("1", "p"), "p.rego": fmt.Sprintf(`package p

import data.large.statuses

# METADATA
# entrypoint: true
decision := {
	"result": "CONDITIONAL", "pluginId": "other", "resourceType": "todo-item",
	"conditions": {"rule": "HAS_STATUS", "resourceType": "todo-item", "params": {"statuses": [concat("", [s | some n in numbers.range(1, %d); s := "0123456789abcdef"])]}},
} if input.permission.name == "large"

decision := {"result": "ALLOW"} if input.permission.name != "large"
`, size/16)})
}

func largeItems(n int) string {
	const item = `{"id":"1","permission":{"type":"resource","name":"large","attributes":{},"resourceType":"todo-item"}}`
	return `{"items":[` + strings.Repeat(item+",", n-1) + item + `]}`
}

// An answer over the limit is 413 that names it, before it takes memory, and one below
// comes whole.
func TestLargeAnswers(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: largePolicy(t, 32<<10)})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	const limit = 32 << 20
	for n, want := range map[int]int{1: 200, 3: 200, 900: 200, 1100: 413, 7000: 413} {
		status, body := site.post(t, token, largeItems(n))
		if status != want || want == 413 && !strings.Contains(body, "stagedoor.limits.answer") {
			t.Errorf("%d items: %d %.300s", n, status, body)
		}
		if want == 200 && (strings.Count(body, `"result":"CONDITIONAL"`) != n || !strings.HasSuffix(body, "]}")) {
			t.Errorf("%d items: the answer of %d bytes is not whole", n, len(body))
		}
		if len(body) > limit {
			t.Errorf("%d items: %d bytes", n, len(body))
		}
	}
}

// Decisions that are larger than an answer may be are not made to the end.
func TestLargeDecisions(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: writeBundle(t, map[string]string{".manifest": manifest("1", "p"), "p.rego": `package p

# METADATA
# entrypoint: true
decision := {
	"result": "CONDITIONAL", "pluginId": "other", "resourceType": "todo-item",
	"conditions": {"rule": "HAS_STATUS", "resourceType": "todo-item", "params": {"statuses": [data.p.large]}},
} if startswith(input.permission.name, "large")
`, "p/data.json": `{"large": "` + strings.Repeat("0123456789abcdef", 4096) + `"}`})})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	items := make([]string, 1000)
	for n := range items {
		items[n] = fmt.Sprintf(`{"id":"1","permission":{"type":"resource","name":"large.%d","attributes":{},"resourceType":"todo-item"}}`, n)
	}
	status, body := site.post(t, token, `{"items":[`+strings.Join(items, ",")+`]}`)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, "stagedoor.limits.answer") {
		t.Errorf("%d %.300s", status, body)
	}
	if status, body = site.post(t, token, `{"items":[`+strings.Join(items[:100], ",")+`]}`); status != http.StatusOK {
		t.Errorf("%d %.300s", status, body)
	}
}

// Clients that do not read what they asked for hold no slot: others are answered.
func TestClientsThatDoNotRead(t *testing.T) {
	const slots, clients = 10, 15
	site := newSite(t, siteOptions{inFlight: slots, policyDir: largePolicy(t, 32<<10)})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	at, err := url.Parse(site.url)
	check(t, err)
	body := largeItems(250) // 8 MB each, far more than connections buffer
	for range clients {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.Host)
		check(t, err)
		t.Cleanup(func() { connection.Close() })
		var request bytes.Buffer
		fmt.Fprintf(&request, "POST %s/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", at.Path, token, len(body), body)
		_, err = connection.Write(request.Bytes())
		check(t, err)
		// The first bytes have come, so that the answer is being written.
		_, err = io.ReadFull(connection, make([]byte, 16))
		check(t, err)
	}
	for n := range 20 {
		if status, text := site.post(t, token, askBasic); status != http.StatusOK {
			t.Fatalf("try %d: %d %s", n, status, text)
		}
	}
}

// Bodies on the operator's address take nothing of what callers have, and are bounded.
func TestOperatorsBodies(t *testing.T) {
	site := newSite(t, siteOptions{})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	at, err := url.Parse(site.admin)
	check(t, err)
	turnedAway := make(chan struct{}, 40)
	for range cap(turnedAway) {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.Host)
		check(t, err)
		t.Cleanup(func() { connection.Close() })
		_, err = fmt.Fprintf(connection, "POST /v1/data/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", 10<<20)
		check(t, err)
		go func() {
			if answer, _ := io.ReadAll(io.LimitReader(connection, 12)); strings.HasPrefix(string(answer), "HTTP/1.1 503") {
				turnedAway <- struct{}{}
			}
		}()
	}
	select {
	case <-turnedAway:
	case <-time.After(patience):
		t.Error("40 bodies of 10 MiB are read at a time")
	}
	large := `{"items":[],"x":"` + strings.Repeat("x", 9<<20) + `"}`
	if status, body := site.post(t, token, large); status != http.StatusOK {
		t.Errorf("%d %.200s", status, body)
	}
}
