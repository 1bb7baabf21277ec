package supply

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"

	"github.com/stagedoor/stagedoor/adapter/alike/flow"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// Status tells how the policy's supply fares.
type Status struct {
	// Ready is whether requests can be decided.
	Ready bool `json:"ready"`
	// Waiting says what readiness waits for; empty when ready.
	Waiting string `json:"waiting,omitempty"`
	// Degraded are the parts that are not as they should be, whether or not requests
	// can be decided.
	Degraded []Degradation `json:"degraded,omitempty"`
	// Revision, Revisions, Since, Entrypoint and Nondeterministic are those of the
	// [vetted.State] that serves.
	Revision   string            `json:"revision,omitempty"`
	Revisions  map[string]string `json:"revisions,omitempty"`
	Since      time.Time         `json:"since,omitzero"`
	Entrypoint string            `json:"entrypoint,omitempty"`
	// Remote is the URL of the OPA server that decides; empty where decisions are
	// made in process.
	Remote           string          `json:"remote,omitempty"`
	AboutResource    bool            `json:"about_resource"`
	Nondeterministic []vetted.Source `json:"nondeterministic,omitempty"`
	// Shared is whether callers who are alike share decisions, and Apart why they do not.
	Shared bool          `json:"decisions_shared"`
	Apart  []flow.Reason `json:"decisions_apart,omitempty"`
	// Confirmed is when the policy was last known to be the newest: of its bundles
	// the one for which that is longest ago, and not after something came that does
	// not serve, as a further bundle is awaited. One that OPA had persisted is known to
	// have been that when it came.
	Confirmed time.Time `json:"confirmed,omitzero"`
	// Awaited are configured bundles that have not arrived yet. Until they have, the
	// policy that serves goes on as it is, also where others of its bundles change.
	Awaited []string `json:"awaited,omitempty"`
	// Refused is what went wrong last with a bundle, or with "discovery", where
	// nothing better came since.
	Refused []Refusal `json:"refused,omitempty"`
	// Configuration is what came of reading it; nil where nobody reads one.
	Configuration *Configuration `json:"configuration,omitempty"`
}

// Configuration is which one counts.
type Configuration struct {
	// Read is when the one was read that counts.
	Read time.Time `json:"read"`
	// Refused says what is wrong with the one that was read last; empty where that counts.
	// RefusedAt is when it was read.
	Refused   string    `json:"refused,omitempty"`
	RefusedAt time.Time `json:"refused_at,omitzero"`
	// AfterRestart are the keys in which it differs from the one that this process
	// started with, and which count after a restart alone.
	AfterRestart []string `json:"after_restart,omitempty"`
}

// Degradation is a part that is not as it should be, and why.
type Degradation struct {
	Part   Part   `json:"part"`
	Reason string `json:"reason"`
}

// Part is what can be degraded.
type Part string

// The parts.
const (
	Updates     Part = "updates"      // of the policy, which is stale
	RemoteOPA   Part = "remote_opa"   // which is left alone after failures
	DecisionLog Part = "decision_log" // whose receiver did not take the last events
)

// Parts are all of them.
func Parts() []Part { return []Part{Updates, RemoteOPA, DecisionLog} }

// Refusal is a bundle that could not be had or must not serve, and why.
type Refusal struct {
	Bundle   string    `json:"bundle"`
	Revision string    `json:"revision,omitempty"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// Status returns how things stand now.
func (s *Supply) Status() Status {
	state := s.state.Load()
	status := Status{Refused: s.reports.refusals(), Awaited: s.reports.lacking(s.configured())}
	if state == nil {
		status.Waiting = s.waitingFor(status.Awaited)
		return status
	}
	status.Revision, status.Revisions, status.Since = state.Revision, state.Revisions, state.Since
	status.Entrypoint, status.AboutResource = state.Entrypoint, state.AboutResource()
	status.Nondeterministic = state.Nondeterministic
	status.Shared, status.Apart = state.Alike() != nil, state.Apart()
	status.Confirmed = s.confirmed(state)
	status.Ready = true
	if s.stale(status.Confirmed) {
		reason := "the policy was last confirmed at " + status.Confirmed.UTC().Format(time.RFC3339)
		status.Degraded = []Degradation{{Updates, reason}}
		if s.options.DenyStale {
			status.Ready, status.Waiting = false, string(Updates)+": "+reason
		}
	}
	return status
}

// waitingFor names what a first policy waits for.
func (s *Supply) waitingFor(late []string) string {
	switch {
	case len(late) > 0:
		return "bundles: " + strings.Join(late, ", ")
	case len(s.configured()) > 0:
		return "a policy: all bundles have arrived, and what they make must not serve"
	case s.manager != nil && s.manager.GetConfig().Discovery != nil:
		return "discovery"
	}
	return "a policy: opa.bundles names no bundle"
}

// confirmed is when the state was last known to be the newest.
func (s *Supply) confirmed(state *vetted.State) time.Time {
	if s.local != nil && s.local.embedded() {
		return s.now() // there will be no other
	}
	oldest := state.Since
	for i, name := range slices.Sorted(maps.Keys(state.Revisions)) {
		at, known := s.reports.confirmedAt(name)
		if !known {
			at = state.Since
		}
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	if behind := s.reports.behindSince(); !behind.IsZero() && behind.Before(oldest) {
		oldest = behind
	}
	return oldest
}

// confirmation is when a bundle that is being activated was last known to be the
// newest: now, or, of one that OPA had persisted, when its file was written, which
// is when the bundle came. It is zero where nobody can tell.
func (s *Supply) confirmation(name string) time.Time {
	now := s.now()
	bundles := s.bundlePlugin()
	// OPA activates what it had persisted before it makes the loaders.
	if bundles == nil || bundles.Loaders()[name] != nil {
		return now
	}
	dir, err := s.manager.GetConfig().GetPersistenceDirectory()
	if err != nil {
		return time.Time{}
	}
	file, err := os.Stat(filepath.Join(dir, "bundles", name, "bundle.tar.gz"))
	switch {
	case err != nil:
		return time.Time{}
	case file.ModTime().After(now):
		return now
	}
	return file.ModTime()
}

// watchBundles follows OPA's discovery and its bundle plugin, which discovery may
// make later.
func (s *Supply) watchBundles() {
	if d := discovery.Lookup(s.manager.Manager); d != nil {
		d.RegisterListener(activatorID, func(status bundleplugin.Status) {
			if status.Code != "" {
				s.reports.refuse(discovery.Name, "", reason(status), s.now())
				return
			}
			s.reports.accept(discovery.Name, status.LastSuccessfulRequest)
		})
	}
	var followed atomic.Pointer[bundleplugin.Plugin]
	follow := func(p *bundleplugin.Plugin) {
		if p != nil && followed.Swap(p) != p {
			p.RegisterBulkListener(activatorID, s.follow)
		}
	}
	follow(s.bundlePlugin())
	s.manager.RegisterPluginStatusListener(activatorID, func(map[string]*plugins.Status) {
		// The plugin can be holding the lock that this takes while it tells its status.
		go follow(s.bundlePlugin())
	})
}

// follow takes the status of every bundle into the reports.
func (s *Supply) follow(statuses map[string]*bundleplugin.Status) {
	for name, status := range statuses {
		switch {
		case status.Code != "":
			s.reports.failed(name, *status, s.now())
		case !status.LastSuccessfulRequest.IsZero():
			s.reports.accept(name, status.LastSuccessfulRequest)
		}
	}
}

// reports are what was told of each bundle: what was refused, and when each bundle was last known to be the newest.
type reports struct {
	mutex   sync.Mutex
	refused map[string]Refusal
	// confirmed has every bundle that was active; zero where nobody can tell when it
	// was the newest.
	confirmed map[string]time.Time
	// behind is since when OPA has held what does not serve, as a further bundle is
	// awaited; zero where what it holds serves.
	behind time.Time
}

// fallBehind notes that something was activated that does not serve yet.
func (r *reports) fallBehind(at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.behind.IsZero() {
		r.behind = at
	}
}

// catchUp notes that all that was activated serves.
func (r *reports) catchUp() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.behind = time.Time{}
}

func (r *reports) behindSince() time.Time {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.behind
}

func (r *reports) refuse(name, revision, reason string, at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.refused == nil {
		r.refused = map[string]Refusal{}
	}
	r.refused[name] = Refusal{Bundle: name, Revision: revision, Reason: peer.WithoutSecrets(reason), At: at}
}

// failed takes over what OPA says went wrong with the last request for a bundle.
func (r *reports) failed(name string, s bundleplugin.Status, at time.Time) {
	if !s.LastSuccessfulDownload.Equal(s.LastRequest) {
		r.refuse(name, "", reason(s), at)
		return
	}
	// It came, so either the activator refused it, and said why, or it serves and
	// could not be persisted.
	r.mutex.Lock()
	_, refused := r.refused[name]
	r.mutex.Unlock()
	if !refused {
		r.refuse(name, s.ActiveRevision, "it serves, but could not be persisted: "+reason(s), at)
	}
}

// reason is what OPA's bundle plugin says went wrong.
func reason(s bundleplugin.Status) string {
	lines := []string{s.Message}
	for _, err := range s.Errors {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// accept notes that a bundle is active, and the newest at that time.
func (r *reports) accept(name string, at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.refused, name)
	if r.confirmed == nil {
		r.confirmed = map[string]time.Time{}
	}
	if was, known := r.confirmed[name]; !known || at.After(was) {
		r.confirmed[name] = at
	}
}

// forget forgets bundles that OPA took out.
func (r *reports) forget(names []string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, name := range names {
		delete(r.confirmed, name)
		delete(r.refused, name)
	}
}

// settle forgets the refusals of bundles that do not matter any more.
func (r *reports) settle(matters func(name string) bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	maps.DeleteFunc(r.refused, func(name string, _ Refusal) bool { return !matters(name) })
}

func (r *reports) confirmedAt(name string) (at time.Time, known bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	at, known = r.confirmed[name]
	return at, known
}

// lacking are those of the names that were never active.
func (r *reports) lacking(names []string) []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.DeleteFunc(names, func(name string) bool {
		_, arrived := r.confirmed[name]
		return arrived
	})
}

func (r *reports) refusals() []Refusal {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var all []Refusal
	for _, name := range slices.Sorted(maps.Keys(r.refused)) {
		all = append(all, r.refused[name])
	}
	return all
}
