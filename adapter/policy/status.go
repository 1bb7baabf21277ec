package policy

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
)

// Status tells how the policy's supply fares.
type Status struct {
	// Ready is whether requests can be decided.
	Ready bool `json:"ready"`
	// Waiting says what readiness waits for; empty when ready.
	Waiting string `json:"waiting,omitempty"`
	// Revision, Revisions, Since, Entrypoint and Nondeterministic are those of the
	// [State] that serves.
	Revision   string            `json:"revision,omitempty"`
	Revisions  map[string]string `json:"revisions,omitempty"`
	Since      time.Time         `json:"since,omitzero"`
	Entrypoint string            `json:"entrypoint,omitempty"`
	// Remote is the URL of the OPA server that decides; empty where decisions are
	// made in process.
	Remote           string   `json:"remote,omitempty"`
	AboutResource    bool     `json:"about_resource"`
	Nondeterministic []Source `json:"nondeterministic,omitempty"`
	// Confirmed is when the policy was last known to be the newest.
	Confirmed time.Time `json:"confirmed,omitzero"`
	// Refused is what was refused since it last was good, by bundle.
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is a bundle that must not serve, and why.
type Refusal struct {
	Bundle   string    `json:"bundle"`
	Revision string    `json:"revision,omitempty"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// Status returns how things stand now.
func (e *Engine) Status() Status {
	s := e.state.Load()
	status := Status{Refused: e.record.refusals()}
	if s == nil {
		status.Waiting = e.waitingFor()
		return status
	}
	status.Revision, status.Revisions, status.Since = s.Revision, s.Revisions, s.Since
	status.Entrypoint, status.AboutResource, status.Nondeterministic = s.Entrypoint, s.AboutResource(), s.Nondeterministic
	status.Confirmed = e.confirmed(s)
	status.Ready = true
	if e.options.MaxAge > 0 && e.now().Sub(status.Confirmed) > e.options.MaxAge {
		status.Ready = false
		status.Waiting = "updates: the policy was last confirmed at " + status.Confirmed.UTC().Format(time.RFC3339)
	}
	return status
}

// waitingFor names the bundles that are late.
func (e *Engine) waitingFor() string {
	if bundles := bundleplugin.Lookup(e.manager); bundles != nil {
		if late := bundles.NotActivated(); len(late) > 0 {
			slices.Sort(late)
			return "bundles " + strings.Join(late, ", ")
		}
	}
	return "a policy"
}

// confirmed is when the state was last known to be the newest.
func (e *Engine) confirmed(s *State) time.Time {
	if at := e.record.confirmedAt(); at.After(s.Since) {
		return at
	}
	return s.Since
}

// watchBundles follows OPA's bundle plugin, also where discovery makes it later.
func (e *Engine) watchBundles() {
	var followed *bundleplugin.Plugin
	var mutex sync.Mutex
	e.manager.RegisterPluginStatusListener(activatorID, func(map[string]*plugins.Status) {
		mutex.Lock()
		defer mutex.Unlock()
		current := bundleplugin.Lookup(e.manager)
		if current == nil || current == followed {
			return
		}
		followed = current
		current.RegisterBulkListener(activatorID, e.follow)
	})
}

// follow takes the status of every bundle into the record.
func (e *Engine) follow(statuses map[string]*bundleplugin.Status) {
	oldest := time.Time{}
	for name, status := range statuses {
		if status.Code != "" {
			e.record.refuse(name, "", statusError(*status), e.now())
			continue
		}
		e.record.accept(name)
		if oldest.IsZero() || status.LastSuccessfulRequest.Before(oldest) {
			oldest = status.LastSuccessfulRequest
		}
	}
	e.record.confirm(oldest)
}

// statusError makes one error of what OPA's bundle plugin says went wrong.
type statusError bundleplugin.Status

func (s statusError) Error() string {
	text := s.Message
	for _, err := range s.Errors {
		text += "\n" + err.Error()
	}
	return text
}

// record is what was refused and what was confirmed.
type record struct {
	mutex     sync.Mutex
	refused   map[string]Refusal
	confirmed time.Time
}

func (r *record) refuse(name, revision string, err error, at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.refused == nil {
		r.refused = map[string]Refusal{}
	}
	if revision == "" {
		revision = r.refused[name].Revision
	}
	r.refused[name] = Refusal{Bundle: name, Revision: revision, Reason: err.Error(), At: at}
}

func (r *record) accept(name string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.refused, name)
}

func (r *record) confirm(at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if at.After(r.confirmed) {
		r.confirmed = at
	}
}

func (r *record) confirmedAt() time.Time {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.confirmed
}

func (r *record) refusals() []Refusal {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var all []Refusal
	for _, name := range slices.Sorted(maps.Keys(r.refused)) {
		all = append(all, r.refused[name])
	}
	return all
}
