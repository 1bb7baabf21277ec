//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// question is what somebody asks, and what it gets without faults.
type question struct {
	name string
	// bearer makes the token of a request.
	bearer func() (string, error)
	body   string
	// results are those of the items, as JSON; nil where the request is refused.
	results []string
	// needs are the neighbours without which it fails.
	needs []string

	learned atomic.Pointer[string] // the whole of the first answer
}

// verdict is what came of one request.
type verdict int

const (
	same verdict = iota
	failed
	unlike
	wrongAllow
)

// item is one of an answer.
type item struct {
	ID         string          `json:"id"`
	Result     json.RawMessage `json:"result"`
	Conditions json.RawMessage `json:"conditions"`
}

// judge holds an answer to the faultless one.
func (q *question) judge(status int, body []byte) verdict {
	if status != http.StatusOK {
		if q.results == nil && status == http.StatusUnauthorized {
			return same
		}
		if bytes.Contains(body, []byte(`"ALLOW"`)) {
			return wrongAllow
		}
		return failed
	}
	if q.results == nil {
		return wrongAllow // whatever it says, it is not for whom it is
	}
	text := string(body)
	if known := q.learned.Load(); known != nil && *known == text {
		return same
	}
	var answer struct{ Items []item }
	if json.Unmarshal(body, &answer) != nil || len(answer.Items) != len(q.results) {
		return unlike
	}
	for n, one := range answer.Items {
		if got := string(one.Result); got != q.results[n] {
			if permitsMore(got, q.results[n]) {
				return wrongAllow
			}
			return unlike
		}
	}
	if q.learned.CompareAndSwap(nil, &text) {
		return same
	}
	return unlike
}

// permitsMore reports whether a result permits what another does not.
func permitsMore(got, want string) bool {
	rank := map[string]int{`"DENY"`: 0, `"CONDITIONAL"`: 1, `"ALLOW"`: 2}
	one, single := rank[got]
	if other, is := rank[want]; single && is {
		return one > other
	}
	var is, should []string
	if json.Unmarshal([]byte(got), &is) != nil || json.Unmarshal([]byte(want), &should) != nil || len(is) != len(should) {
		return strings.Contains(got, "ALLOW")
	}
	for n := range is {
		if is[n] == "ALLOW" && should[n] != "ALLOW" {
			return true
		}
	}
	return false
}

// client asks one stagedoor.
type client struct {
	http *http.Client
	url  string
}

func (r *rig) client(address string) *client {
	transport := &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096}
	r.later(transport.CloseIdleConnections)
	return &client{&http.Client{Transport: transport, Timeout: 20 * time.Second}, "http://" + address + "/api/permission/authorize"}
}

// post asks, and returns the answer.
func (c *client) post(ctx context.Context, bearer, body string) (int, []byte, error) {
	// A body that Go cannot get anew, so that no request is tried twice.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		return 0, nil, err
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+bearer)
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// put puts a question, and tells what was wrong with the answer where it was not the
// faultless one.
func (c *client) put(ctx context.Context, q *question) (verdict, time.Duration, string) {
	bearer, err := q.bearer()
	if err != nil {
		return failed, 0, err.Error()
	}
	begun := time.Now()
	status, body, err := c.post(ctx, bearer, q.body)
	took := time.Since(begun)
	if err != nil {
		return failed, took, fmt.Sprintf("%s: %v", q.name, err)
	}
	v := q.judge(status, body)
	if v == same {
		return v, took, ""
	}
	return v, took, fmt.Sprintf("%s: %d %.200s", q.name, status, body)
}

// tally is what came of many requests. It is safe for concurrent use.
type tally struct {
	mutex                        sync.Mutex
	requests, wrong, unlike, bad int
	// errors are failures of questions that need what is at fault, and bad those of others.
	errors int
	first  map[string]int // what was said of those that count, and how often
	took   []time.Duration
}

func (t *tally) add(v verdict, took time.Duration, said string, excused bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.requests++
	t.took = append(t.took, took)
	switch {
	case v == wrongAllow:
		t.wrong++
	case v == unlike:
		t.unlike++
	case v == failed && excused:
		t.errors++
		return
	case v == failed:
		t.bad++
	default:
		return
	}
	if t.first == nil {
		t.first = map[string]int{}
	}
	if len(t.first) < 5 || t.first[said] > 0 {
		t.first[said]++
	}
}

// said is what was said of the requests that count against stagedoor.
func (t *tally) said() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(t.first)), "\n    ")
}

// percentile is the time that so many percent of the requests did not exceed.
func (t *tally) percentile(p float64) time.Duration {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(len(t.took)-1, int(float64(len(t.took))*p/100))]
}

// load asks until it is stopped.
type load struct {
	*tally
	cancel context.CancelFunc
	group  sync.WaitGroup
	// fault is the neighbour that is at fault now; nil for none.
	fault atomic.Pointer[string]
}

// startLoad has askers for each question put it again and again, with pauses.
func (c *client) startLoad(ctx context.Context, questions []*question, askers int, pause time.Duration) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{tally: &tally{}, cancel: cancel}
	for _, q := range questions {
		for range askers {
			l.group.Go(func() {
				for wait(ctx, time.Duration(rand.Int64N(int64(2*pause)))) == nil {
					before := l.fault.Load()
					v, took, said := c.put(ctx, q)
					if ctx.Err() != nil {
						return
					}
					l.add(v, took, said, q.excused(before) || q.excused(l.fault.Load()))
				}
			})
		}
	}
	return l
}

// excused reports whether the question may fail when a neighbour is at fault.
func (q *question) excused(fault *string) bool {
	return fault != nil && slices.Contains(q.needs, *fault)
}

// end ends the load.
func (l *load) end() {
	l.cancel()
	l.group.Wait()
}

// figures are those of the load: nothing may be wrong.
func (t *tally) figures() []figure {
	return []figure{
		{what: "requests", got: strconv.Itoa(t.requests), want: "some", ok: t.requests > 0},
		{what: "wrong ALLOW", got: strconv.Itoa(t.wrong), want: "0", ok: t.wrong == 0},
		{what: "unlike", got: strconv.Itoa(t.unlike), want: "0", ok: t.unlike == 0},
		{what: "failed", got: strconv.Itoa(t.bad), want: "0", ok: t.bad == 0},
	}
}

// first asks each question until it is answered as it should be, so that keys, users and
// answers are known before a fault.
func (c *client) first(ctx context.Context, questions []*question) error {
	for _, q := range questions {
		var said string
		for tries := 0; ; tries++ {
			var v verdict
			if v, _, said = c.put(ctx, q); v == same {
				break
			}
			if tries == 50 || ctx.Err() != nil {
				return errors.New("without a fault: " + said)
			}
			_ = wait(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

// recovers returns how long it takes until the question is answered as without faults.
func (c *client) recovers(ctx context.Context, q *question, within time.Duration) (time.Duration, error) {
	said := ""
	for begun := time.Now(); time.Since(begun) < within && ctx.Err() == nil; _ = wait(ctx, 20*time.Millisecond) {
		var v verdict
		if v, _, said = c.put(ctx, q); v == same {
			return time.Since(begun), nil
		}
	}
	return 0, fmt.Errorf("no recovery within %v: %s", within, said)
}

// onBehalf makes tokens of the todo plugin for a user, each a new one.
func onBehalf(b *sample.Backstage, user string) func() (string, error) {
	return func() (string, error) { return b.PluginToken(user) }
}

// strangers makes tokens for a user whom nobody has met, each for another.
func strangers(b *sample.Backstage) func() (string, error) {
	var met atomic.Int64
	return func() (string, error) { return b.PluginToken(fmt.Sprintf("user:default/stranger-%d", met.Add(1))) }
}

const (
	alice = "user:default/alice"
	bob   = "user:default/bob"
	carol = "user:default/carol"
)

// basic and about are bodies of requests.
func basic(names ...string) string {
	items := make([]string, len(names))
	for n, name := range names {
		items[n] = fmt.Sprintf(`{"id":"%d","permission":{"type":"basic","name":%q,"attributes":{"action":"read"}}}`, n, name)
	}
	return `{"items":[` + strings.Join(items, ",") + `]}`
}

// about asks about one item of the sample.
func about(refs string) string {
	if refs != "" {
		refs = `,"resourceRef":` + refs
	}
	return fmt.Sprintf(`{"items":[{"id":"1","permission":{"type":"resource","name":"todo.item.update","attributes":{"action":"update"},`+
		`"resourceType":"todo-item"}%s}]}`, refs)
}
