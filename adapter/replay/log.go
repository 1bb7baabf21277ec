// Package replay decides what decision logs hold again, by another policy, and tells
// what would be answered otherwise.
package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A Log is what decision logs hold, each distinct question once. The zero Log is empty.
type Log struct {
	mu sync.Mutex

	events    map[int]int       // by path
	undecided map[undecided]int // events that cannot be decided
	operators int               // events of what operators asked
	revised   map[revised]int   // events that say by which revision, by path

	paths    interned[string]
	callers  interned[loggedCaller]
	subjects interned[loggedPermission]
	answers  interned[loggedAnswer]
	bundles  interned[string] // as they stand in an event
	asked    map[questionKey]*occurrences
	claims   map[string][]string // by hash, or as they came, of events that tell them
}

// loggedCaller is who asked, as an event tells it.
type loggedCaller struct {
	user, actor string
	anonymous   bool
	// claims are as a key of Log.claims: a hash, or all claims as they came, since a policy may
	// ask for their order.
	claims string
	told   bool // whether the event itself has the claims
}

// loggedPermission is what was asked for. Where it is untyped the event does not say whether
// that is about a resource: the wrapper module of Backstage sends OPA the name alone.
type loggedPermission struct {
	wire.Permission
	untyped bool
}

// questionKey is a question with its answer, and the path of the rule that gave it.
type questionKey struct{ path, caller, permission, answer int }

// revised are events with a path that were made by the same revisions of bundles.
type revised struct{ path, bundles int }

// undecided is why events cannot be decided, of those with a path.
type undecided struct {
	path int
	why  string
}

// loggedAnswer is an answer, and how many branches of the policy failed and were no part
// of it.
type loggedAnswer struct {
	text     string
	excluded int
}

// occurrences are the events with a question and an answer.
type occurrences struct {
	events     int
	decisionID string
}

// interned numbers values.
type interned[T comparable] struct {
	numbers map[T]int
	values  []T
}

func (i *interned[T]) number(v T) int {
	n, ok := i.numbers[v]
	if !ok {
		if i.numbers == nil {
			i.numbers = make(map[T]int)
		}
		n = len(i.values)
		i.numbers[v] = n
		i.values = append(i.values, v)
	}
	return n
}

// loggedEvent is what replaying needs of an event.
type loggedEvent struct {
	// Level and Type are what a line of a program's log has, and an event among such lines.
	Level      string `json:"level"`
	Type       string `json:"type"`
	DecisionID string `json:"decision_id"`
	Path       string `json:"path"`
	Input      *struct {
		Permission *struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Attributes struct {
				Action string `json:"action"`
			} `json:"attributes"`
			ResourceType string `json:"resourceType"`
		} `json:"permission"`
		Identity *struct {
			User   string    `json:"user"`
			Claims *[]string `json:"claims"`
			Actor  string    `json:"actor"`
		} `json:"identity"`
	} `json:"input"`
	Result json.RawMessage `json:"result"`
	// Error is OPA's own, of an evaluation that failed.
	Error json.RawMessage `json:"error"`
	// Bundles have the revision of each bundle by its name.
	Bundles json.RawMessage `json:"bundles"`
	// Erased and Masked are paths of what a mask has removed and replaced.
	Erased []string `json:"erased"`
	Masked []string `json:"masked"`
	Custom struct {
		Error *struct {
			Code decision.FailureKind `json:"code"`
		} `json:"error"`
		ClaimsHash string    `json:"claims_sha256"`
		Claims     *[]string `json:"caller_claims"`
		Excluded   []string  `json:"excluded_branches"`
		ByOperator bool      `json:"by_operator"`
	} `json:"custom"`
}

// Read reads a decision log: events one after the other, or the arrays that OPA uploads,
// plain or packed by gzip. A log may end in the middle of an event, as one does that is
// still written: that event cannot be decided again. The error says at which byte it is no
// JSON.
func (l *Log) Read(ctx context.Context, r io.Reader) error {
	buffered := bufio.NewReaderSize(r, 1<<20)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return err
		}
		buffered = bufio.NewReaderSize(unpacked, 1<<20)
	}
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan [][]byte, 4)
	group.Go(func() error {
		defer close(batches)
		err := split(ctx, buffered, batches)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			l.cut()
			return nil
		}
		return err
	})
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for batch := range batches {
				l.addAll(batch)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// batchSize is how many events are handed on together.
const batchSize = 256

// split hands on the events of a log.
func split(ctx context.Context, r io.Reader, batches chan<- [][]byte) error {
	d := jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var batch [][]byte
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		batch = nil
		return nil
	}
	for {
		switch d.PeekKind() {
		case '[', ']':
			if _, err := d.ReadToken(); err != nil {
				return fmt.Errorf("no JSON at byte %d: %w", d.InputOffset(), err)
			}
			continue
		}
		value, err := d.ReadValue()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("no JSON at byte %d: %w", d.InputOffset(), err), flush())
		}
		if batch = append(batch, bytes.Clone(value)); len(batch) == batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// cut counts the event in the middle of which a log ends.
func (l *Log) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
	path := l.paths.number("")
	l.events[path]++
	l.undecided[undecided{path, "the log ends in the middle of it"}]++
}

func (l *Log) begin() {
	if l.asked == nil {
		l.asked, l.claims = make(map[questionKey]*occurrences), make(map[string][]string)
		l.events, l.undecided, l.revised = make(map[int]int), make(map[undecided]int), make(map[revised]int)
	}
}

func (l *Log) addAll(batch [][]byte) {
	events := make([]loggedEvent, len(batch))
	bad := make([]bool, len(batch))
	for i, text := range batch {
		bad[i] = json.Unmarshal(text, &events[i]) != nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
	for i := range events {
		if events[i].Level != "" && events[i].Type != "openpolicyagent.org/decision_logs" {
			continue // another line of what has events for the console
		}
		if e := &events[i]; e.Custom.Claims != nil && (e.Input == nil || e.Input.Permission == nil) {
			c := decision.Caller{Claims: *e.Custom.Claims}
			l.claims[c.ClaimsHash()] = c.Claims
			continue
		}
		if events[i].Custom.ByOperator {
			l.operators++
			continue
		}
		path := l.paths.number(strings.Trim(events[i].Path, "/"))
		l.events[path]++
		if bundles := events[i].Bundles; len(bundles) > 0 {
			l.revised[revised{path, l.bundles.number(string(bundles))}]++
		}
		why := "it is no event of a decision log"
		if !bad[i] {
			why = l.add(path, &events[i])
		}
		if why != "" {
			l.undecided[undecided{path, why}]++
		}
	}
}

// add adds an event, or says why it cannot be decided again.
func (l *Log) add(path int, e *loggedEvent) string {
	if e.Input == nil || e.Input.Permission == nil || e.Input.Permission.Name == "" {
		return "it does not say which permission was asked for"
	}
	if e.hides("/input/permission", "/input/identity/user", "/input/identity/actor") {
		return "a mask has left out who asked or for what"
	}
	answer := string(e.Result)
	switch none := answer == "" || answer == "null"; {
	case none && e.Custom.Error != nil:
		if code := e.Custom.Error.Code; code == decision.FailureDeadline || code == decision.FailureRemote {
			return "the policy was not done in time, or the remote OPA did not answer"
		}
		answer = ""
	case e.hides("/result"):
		return "a mask has left out a part of the answer"
	case none && len(e.Error) > 0:
		return "OPA failed at it"
	case answer == "null":
		return "it has no answer"
	case answer == "": // undefined, which OPA logs so
		answer = `{"result":"DENY"}`
	}
	c := loggedCaller{anonymous: true}
	if of := e.Input.Identity; of != nil {
		c = loggedCaller{user: of.User, actor: of.Actor, claims: e.Custom.ClaimsHash}
		if of.Claims != nil && !e.hides("/input/identity/claims") {
			known := decision.Caller{Claims: *of.Claims}
			// Where the hash says otherwise, these are not the claims that the policy saw.
			if hash := known.ClaimsHash(); c.claims == "" || c.claims == hash {
				c.claims, c.told = inOrder(known.Claims), true
				l.claims[c.claims] = known.Claims
			}
		}
	}
	p := e.Input.Permission
	key := questionKey{
		path:   path,
		caller: l.callers.number(c),
		permission: l.subjects.number(loggedPermission{wire.Permission{
			Name: p.Name, Action: p.Attributes.Action, Resource: p.Type == "resource", ResourceType: p.ResourceType,
		}, p.Type == ""}),
		answer: l.answers.number(loggedAnswer{answer, len(e.Custom.Excluded)}),
	}
	o := l.asked[key]
	if o == nil {
		o = &occurrences{decisionID: e.DecisionID}
		l.asked[key] = o
	}
	o.events++
	return ""
}

// inOrder is a text that is the same for the same claims in the same order. It is no hash.
func inOrder(claims []string) string {
	var b strings.Builder
	for _, claim := range claims {
		fmt.Fprintf(&b, "%d:%s", len(claim), claim)
	}
	return b.String() + "."
}

// path is the path of the rule whose decisions are compared with those of an entrypoint.
// Others may send their events to the same log. The error says that it cannot be told
// which are meant.
func (l *Log) path(entrypoint string) (string, error) {
	var asked []string // paths of which there are questions
	for key := range l.asked {
		if path := l.paths.values[key.path]; path != "" && !slices.Contains(asked, path) {
			asked = append(asked, path)
		}
	}
	switch {
	case len(asked) == 0 || slices.Contains(asked, entrypoint):
		return entrypoint, nil
	case len(asked) == 1: // the policy has moved
		return asked[0], nil
	}
	slices.Sort(asked)
	return "", fmt.Errorf("the log has decisions of %s, and none of %s, by which the policy decides; "+
		"leave in the log only those to compare with it", strings.Join(asked, ", "), entrypoint)
}

// revisionOf names the policy that an event's bundles are; empty where they say nothing of it.
func revisionOf(bundles string) string {
	var of map[string]struct {
		Revision string `json:"revision"`
	}
	if json.Unmarshal([]byte(bundles), &of) != nil {
		return ""
	}
	revisions := make(map[string]string, len(of))
	for name, bundle := range of {
		revisions[name] = bundle.Revision
	}
	return vetted.RevisionOf(revisions, "")
}

// hides is whether a mask has removed or replaced something at one of some paths, above or below.
func (e *loggedEvent) hides(paths ...string) bool {
	return slices.ContainsFunc(slices.Concat(e.Erased, e.Masked), func(hidden string) bool {
		return slices.ContainsFunc(paths, func(path string) bool {
			return strings.HasPrefix(path+"/", hidden+"/") || strings.HasPrefix(hidden, path+"/")
		})
	})
}
