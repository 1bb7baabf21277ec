package simulation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stagedoor/stagedoor/adapter/sample"
)

// epoch is when every bubble of synctest begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	length    = 30 * time.Minute // of a schedule
	slowest   = time.Second      // answer of a neighbour that is well
	users     = 3
	keys      = 3 // of users, one after the other, and of the plugin
	lifetimes = 3 // of tokens
	revisions = 6
	groups    = 4
	names     = 4 // of permissions
	resources = 3
)

// span is a part of a schedule.
type span struct{ from, to time.Duration }

func (s span) meets(from, to time.Duration) bool { return s.from <= to && from <= s.to }

// life is how long a key is published.
type life struct {
	span
	key *sample.Key
}

// change is what came to be at a moment.
type change struct {
	at    time.Duration
	value int // a set of groups as bits, or who owns a resource
}

// fault is what a neighbour does for a while.
type fault struct {
	span
	how string
}

var hows = []string{"refuses", "hangs", "500", "garbage", "halfway", "slow", "wrong"}

// world is what is true, moment by moment. It does not change once it is drawn.
type world struct {
	seed       uint64
	userKeys   [keys]life
	pluginKeys [keys]life
	groups     [users][]change
	owners     [resources][]change
	auth, todo []fault
	asks       []ask
	activates  []activation

	mutex  sync.Mutex
	served []serving // in order
}

// ask is one request to be made.
type ask struct {
	at            time.Duration
	user, userKey int
	expires       int // which lifetime
	through       int // the plugin's key, or -1 for in person
	refs          []int
}

// activation is a policy that comes at a moment.
type activation struct {
	at       time.Duration
	revision int
	broken   bool
}

// serving is from when a revision served: it was activated between two moments.
type serving struct {
	revision int
	span
}

// pool are keys and tokens, made once: every bubble begins at the same moment.
type pool struct {
	user, plugin [keys]*sample.Key
	tokens       map[string]string
}

var lifetimesOf = [lifetimes]time.Duration{3 * time.Minute, 12 * time.Minute, time.Hour}

func newPool() (*pool, error) {
	p := &pool{tokens: map[string]string{}}
	var err error
	for n := range keys {
		if p.user[n], err = sample.NewKey(fmt.Sprint("user-", n)); err != nil {
			return nil, err
		}
		if p.plugin[n], err = sample.NewKey(fmt.Sprint("plugin-", n)); err != nil {
			return nil, err
		}
	}
	for user := range users {
		for key := range keys {
			for expires := range lifetimes {
				if err := p.sign(user, key, expires); err != nil {
					return nil, err
				}
			}
		}
	}
	return p, nil
}

type header struct {
	Typ string `json:"typ"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
}

type claims struct {
	Iss string `json:"iss,omitempty"`
	Sub string `json:"sub"`
	Aud string `json:"aud,omitempty"`
	Iat int64  `json:"iat"`
	Exp int64  `json:"exp"`
	Obo string `json:"obo,omitempty"`
	Uip string `json:"uip,omitempty"`
}

func nameOf(user int) string { return fmt.Sprint("user:default/u", user) }

// sign makes the tokens of a user by a key: in person, and through each of the plugin's.
func (p *pool) sign(user, key, expires int) error {
	iat, exp := epoch.Unix(), epoch.Add(lifetimesOf[expires]).Unix()
	k := p.user[key]
	limited, err := k.Sign(header{"vnd.backstage.limited-user", "ES256", k.ID}, claims{Sub: nameOf(user), Iat: iat, Exp: exp})
	if err != nil {
		return err
	}
	proof := limited[strings.LastIndexByte(limited, '.')+1:]
	p.tokens[tokenOf(user, key, expires, -1)], err = k.Sign(header{"vnd.backstage.user", "ES256", k.ID},
		claims{Iss: "http://b/api/auth", Sub: nameOf(user), Aud: "backstage", Iat: iat, Exp: exp, Uip: proof})
	for n, k := range p.plugin {
		if err == nil {
			p.tokens[tokenOf(user, key, expires, n)], err = k.Sign(header{"vnd.backstage.plugin", "ES256", k.ID},
				claims{Sub: "todo", Aud: "permission", Iat: iat, Exp: epoch.Add(time.Hour).Unix(), Obo: limited})
		}
	}
	return err
}

func tokenOf(user, key, expires, through int) string { return fmt.Sprint(user, key, expires, through) }

// draw draws a world from a seed.
func draw(seed uint64, p *pool) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &world{seed: seed}
	at := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
	lives := func(of [keys]*sample.Key) (all [keys]life) {
		// One after the other, with the next one there for a while before the last goes.
		from := time.Duration(0)
		for n := range all {
			to := from + at(length)
			if n == keys-1 || r.IntN(3) == 0 {
				to = 2 * length
			}
			all[n] = life{span{from, to}, of[n]}
			from = max(0, to-at(5*time.Minute))
			if from > length {
				from = at(length)
			}
		}
		return all
	}
	w.userKeys, w.pluginKeys = lives(p.user), lives(p.plugin)
	changes := func(kinds, most int) []change {
		all := []change{{0, r.IntN(kinds)}}
		for range r.IntN(most) {
			all = append(all, change{at(length), r.IntN(kinds)})
		}
		slices.SortFunc(all, func(a, b change) int { return int(a.at - b.at) })
		return all
	}
	for n := range w.groups {
		w.groups[n] = changes(1<<groups, 8)
	}
	for n := range w.owners {
		w.owners[n] = changes(users, 6)
	}
	faults := func() (all []fault) {
		for range r.IntN(4) {
			from := at(length)
			all = append(all, fault{span{from, from + at(2*time.Minute)}, hows[r.IntN(len(hows))]})
		}
		return all
	}
	w.auth, w.todo = faults(), faults()
	w.activates = append(w.activates, activation{0, 0, false})
	for n := 1; n < 2+r.IntN(8); n++ {
		w.activates = append(w.activates, activation{at(length), r.IntN(revisions), r.IntN(5) == 0})
	}
	slices.SortFunc(w.activates, func(a, b activation) int { return int(a.at - b.at) })
	// In bursts, and often right after something has changed.
	for range 6 + r.IntN(6) {
		begin := at(length)
		switch r.IntN(4) {
		case 0:
			begin = w.activates[r.IntN(len(w.activates))].at
		case 1:
			c := w.groups[r.IntN(users)]
			begin = c[r.IntN(len(c))].at + at(6*time.Second)
		case 2:
			begin = w.userKeys[r.IntN(keys)].to%length + at(11*time.Minute)
		}
		user := r.IntN(users)
		for range 1 + r.IntN(8) {
			a := ask{at: begin + at(8*time.Second), user: user, userKey: r.IntN(keys), expires: r.IntN(lifetimes), through: r.IntN(keys+1) - 1}
			if r.IntN(3) == 0 {
				a.user = r.IntN(users)
			}
			if r.IntN(5) > 0 { // mostly with what is good
				a.expires = lifetimes - 1
				a.userKey = published(w.userKeys, a.at, a.userKey)
				if a.through >= 0 {
					a.through = published(w.pluginKeys, a.at, a.through)
				}
			}
			for range r.IntN(3) {
				a.refs = append(a.refs, r.IntN(resources))
			}
			w.asks = append(w.asks, a)
		}
	}
	return w
}

// published is a key that is published at a moment: that one, or else the first there is.
func published(lives [keys]life, moment time.Duration, key int) int {
	for n := range keys {
		if one := (key + n) % keys; lives[one].meets(moment, moment) {
			return one
		}
	}
	return key
}

// at is what is so at a moment.
func at(all []change, moment time.Duration) int {
	value := all[0].value
	for _, c := range all {
		if c.at <= moment {
			value = c.value
		}
	}
	return value
}

// between are all that was so at some moment of a span.
func between(all []change, s span) map[int]bool {
	found := map[int]bool{at(all, max(s.from, 0)): true}
	for _, c := range all {
		if c.at >= s.from && c.at <= s.to {
			found[c.value] = true
		}
	}
	return found
}

// faulty is what a neighbour does at a moment; empty where it is well.
func faulty(all []fault, moment time.Duration) string {
	for _, f := range all {
		if f.meets(moment, moment) {
			return f.how
		}
	}
	return ""
}

func wasFaulty(all []fault, from, to time.Duration) bool {
	return slices.ContainsFunc(all, func(f fault) bool { return f.meets(from, to) })
}

// RoundTrip implements [http.RoundTripper]: it is the auth backend and the plugin.
func (w *world) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, path := request.Context(), request.URL.Path
	neighbour := w.todo
	if strings.HasPrefix(path, "/api/auth/") {
		neighbour = w.auth
	}
	body := []byte{}
	if request.Body != nil {
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
		_ = request.Body.Close()
	}
	takes := w.takes(path, request.Header.Get("Authorization"), body)
	if err := pause(ctx, takes/2); err != nil {
		return nil, err
	}
	now := time.Since(epoch)
	how := faulty(neighbour, now)
	switch how {
	case "refuses":
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	case "500":
		return answer(500, []byte(`{"error":{"name":"Error","message":"x"}}`)), nil
	case "garbage":
		return answer(200, []byte("<html>")), nil
	case "slow":
		takes += 3 * time.Second
	}
	status, text := w.answer(request, body, now, how == "wrong")
	if how == "halfway" {
		whole := answer(status, nil)
		whole.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)/2]), broken{}))
		return whole, nil
	}
	if err := pause(ctx, takes/2); err != nil {
		return nil, err
	}
	return answer(status, text), nil
}

// broken is a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// takes is how long an answer takes. It depends on nothing but the seed, the moment and
// the question, so that schedules can be repeated.
func (w *world) takes(path, bearer string, body []byte) time.Duration {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, w.seed, time.Since(epoch), path, len(bearer), len(body)) // never fails
	share := rand.New(rand.NewPCG(h.Sum64(), w.seed)).Float64()
	return time.Duration(share * share * share * float64(slowest))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func answer(status int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}

// answer is what a neighbour says at a moment. What it says wrong is about somebody else,
// or answers nothing that was asked.
func (w *world) answer(request *http.Request, body []byte, now time.Duration, wrong bool) (int, []byte) {
	set := func(lives [keys]life) (int, []byte) {
		var all []json.RawMessage
		for _, l := range lives {
			if l.meets(now, now) {
				text, err := l.key.Set()
				if err != nil {
					return 500, nil
				}
				var one struct{ Keys []json.RawMessage }
				_ = json.Unmarshal(text, &one) // our own
				all = append(all, one.Keys...)
			}
		}
		return asJSON(map[string]any{"keys": all})
	}
	switch path := request.URL.Path; {
	case wrong && strings.HasSuffix(path, "jwks.json"):
		return 200, []byte(`{"keys":{}}`)
	case wrong && strings.HasSuffix(path, "userinfo"):
		return asJSON(map[string]any{"claims": map[string]any{"sub": "user:default/root", "ent": groupsOf(1<<groups - 1)}})
	case wrong:
		return 200, []byte(`{"items":[{"id":"x","result":"ALLOW"}]}`)
	case strings.HasPrefix(path, "/api/auth/") && strings.HasSuffix(path, "jwks.json"):
		return set(w.userKeys)
	case strings.HasSuffix(path, "jwks.json"):
		return set(w.pluginKeys)
	case strings.HasSuffix(path, "userinfo"):
		user, err := subjectOf(request)
		if err != nil {
			return 401, nil
		}
		ent := append([]string{nameOf(user)}, groupsOf(at(w.groups[user], now))...)
		return asJSON(map[string]any{"claims": map[string]any{"sub": nameOf(user), "ent": ent}})
	case strings.HasSuffix(path, "apply-conditions"):
		return w.apply(body, now)
	default:
		return asJSON(map[string]any{"permissions": []any{}, "rules": []any{}})
	}
}

func asJSON(v any) (int, []byte) {
	text, err := json.Marshal(v)
	if err != nil {
		return 500, nil
	}
	return 200, text
}

func groupsOf(bits int) []string {
	var all []string
	for n := range groups {
		if bits&(1<<n) != 0 {
			all = append(all, fmt.Sprint("group:default/g", n))
		}
	}
	return all
}

func subjectOf(request *http.Request) (int, error) {
	parts := strings.Split(request.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return 0, errors.New("no token")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0, err
	}
	var c claims
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, err
	}
	var user int
	_, err = fmt.Sscanf(c.Sub, "user:default/u%d", &user)
	return user, err
}

// apply is the plugin's answer: who asks owns the resource, or does not.
func (w *world) apply(body []byte, now time.Duration) (int, []byte) {
	var request struct {
		Items []struct {
			ID          string          `json:"id"`
			ResourceRef json.RawMessage `json:"resourceRef"`
			Conditions  struct {
				Params struct {
					UserID string `json:"userId"`
				} `json:"params"`
			} `json:"conditions"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return 400, nil
	}
	items := []any{}
	for _, one := range request.Items {
		result := func(ref string) string {
			var n int
			if _, err := fmt.Sscanf(ref, "r%d", &n); err == nil && nameOf(at(w.owners[n], now)) == one.Conditions.Params.UserID {
				return "ALLOW"
			}
			return "DENY"
		}
		var many []string
		var single string
		switch {
		case json.Unmarshal(one.ResourceRef, &single) == nil:
			items = append(items, map[string]any{"id": one.ID, "result": result(single)})
		case json.Unmarshal(one.ResourceRef, &many) == nil:
			results := make([]string, len(many))
			for n, ref := range many {
				results[n] = result(ref)
			}
			items = append(items, map[string]any{"id": one.ID, "result": results})
		}
	}
	return asJSON(map[string]any{"items": items})
}
