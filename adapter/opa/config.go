package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/config"
	opakeys "github.com/open-policy-agent/opa/v1/keys"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/plugins/status"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// What stagedoor ships with other defaults than OPA.
const (
	// A file of a bundle may have so many bytes; OPA lets it have 1 GiB, of which
	// the JSON takes twenty times as much memory.
	bundleFileBytes = 64 << 20
	// The decision log is sent every one to so many seconds; OPA takes up to 600.
	logDelayLeast, logDelayMost = 1, 2
	// So many events, or chunks that could not be sent, wait at most, though none
	// beyond BufferBytes; and a chunk may have so many bytes.
	logEvents     = 16384
	logChunkBytes = 128 << 10
)

// BufferBytes is how many bytes of events may wait in the buffer of OPA's decision log.
const BufferBytes = 64 << 20

// document is OPA's configuration as decoded JSON.
type document map[string]any

// Validate reports everything that is wrong with the configuration as far as it can
// be known without reading a policy: each problem of stagedoor's own with its key, or else
// the first that OPA's plugins find.
func (o Options) Validate() error {
	d, err := o.document()
	if err != nil {
		return err
	}
	if err := errors.Join(d.refuseFile(), d.refuseManual(), o.refuseSmall(d)); err != nil {
		return err
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("opa: %w", err)
	}
	// One without plugins: those that were not started cannot be stopped, and each
	// manager has a goroutine.
	manager, err := plugins.New(raw, "", inmem.New(), plugins.Logger(logging.NewNoOpLogger()))
	if err != nil {
		return fmt.Errorf("opa: %w", err)
	}
	defer manager.Stop(context.Background())
	log, err := parsePlugins(manager)
	if err != nil {
		return fmt.Errorf("opa: %w", err)
	}
	return o.checkRequired(log)
}

// parsePlugins reads the sections of the plugins as OPA does where it makes them. log is
// nil where there is no decision log.
func parsePlugins(manager *plugins.Manager) (log *logs.Config, err error) {
	c, services, keys := manager.GetConfig(), manager.Services(), manager.PublicKeys()
	_, err = discovery.NewConfigBuilder().WithBytes(c.Discovery).WithServices(services).WithKeyConfigs(keys).Parse()
	if err != nil {
		return nil, err
	}
	if len(c.Discovery) > 0 {
		return nil, nil //nolint:nilnil // the other sections are what comes by it
	}
	var custom []string
	for name := range c.Plugins {
		if name != witnessName {
			return nil, fmt.Errorf("plugin %q not registered", name)
		}
		custom = append(custom, name)
	}
	_, err = bundleplugin.NewConfigBuilder().WithBytes(c.Bundles).WithServices(services).WithKeyConfigs(keys).Parse()
	if err != nil {
		return nil, err
	}
	_, err = status.NewConfigBuilder().WithBytes(c.Status).WithServices(services).WithPlugins(custom).Parse()
	if err != nil {
		return nil, err
	}
	return logs.NewConfigBuilder().WithBytes(c.DecisionLogs).WithServices(services).WithPlugins(custom).Parse()
}

// checkRequired refuses a decision log that cannot tell whether it took an event.
func (o Options) checkRequired(log *logs.Config) error {
	if o.AuditRequired && (log == nil || log.Service == "") {
		return errors.New("stagedoor.audit.required: opa.decision_logs names no service. " +
			"The console does not do: nobody learns whether what reads it took a line")
	}
	return nil
}

// PolicyKeys are the keys of the configuration that say where a policy is.
func (o Options) PolicyKeys() []string {
	d := document{}
	if err := json.Unmarshal(o.Config, &d); err != nil {
		return nil // Validate says so
	}
	return d.policyKeys()
}

// DistributedTracing is the section of that name, or empty: package tracing reads it,
// since OPA does so as a server alone.
func (o Options) DistributedTracing() json.RawMessage {
	var d struct {
		Tracing json.RawMessage `json:"distributed_tracing"`
	}
	if err := json.Unmarshal(o.Config, &d); err != nil {
		return nil // Validate says so
	}
	return d.Tracing
}

func (d document) policyKeys() (keys []string) {
	for _, key := range []string{"bundles", "discovery"} {
		if d.has(key) {
			keys = append(keys, "opa."+key)
		}
	}
	return keys
}

// document is the configuration that OPA's plugins start with: checked, and
// with the defaults filled in that stagedoor ships.
func (o Options) document() (document, error) {
	d := document{}
	if len(bytes.TrimSpace(o.Config)) == 0 {
		o.Config = []byte("{}")
	}
	if err := json.Unmarshal(o.Config, &d); err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	if err := d.refuseKinds(); err != nil {
		return nil, err
	}
	parsed, err := config.ParseConfig(o.Config, "")
	if err != nil {
		return nil, fmt.Errorf("opa: %w", err)
	}
	err = errors.Join(d.unknownKeys(parsed.Warnings), d.refuseBundle(), d.refuseIdle(), d.refuseHaste(),
		d.refuseServices(), o.refuseRequired(d))
	if err != nil {
		return nil, err
	}
	d.bundleDefaults()
	d.logDefaults()
	d.statusDefaults()
	if !d.has("discovery") {
		d.takeTrigger()
	}
	if o.AuditRequired {
		d.witness()
	}
	return d, nil
}

func (d document) has(key string) bool {
	object, _ := d[key].(map[string]any)
	return len(object) > 0
}

// refuseBundle refuses the older singular key: OPA activates such a bundle by a
// way of its own that no activator sees.
func (d document) refuseBundle() error {
	if d["bundle"] != nil {
		return errors.New("opa.bundle: this older key gets past the vetting of policies: name the bundle under opa.bundles")
	}
	return nil
}

// refuseKinds refuses sections that are no objects. OPA says of them what of its own code
// they do not fit.
func (d document) refuseKinds() error {
	var problems []error
	check := func(path string, value any) map[string]any {
		object, ok := value.(map[string]any)
		if !ok && value != nil {
			problems = append(problems, fmt.Errorf("opa.%s: want an object", path))
		}
		return object
	}
	for _, key := range []string{
		"bundles", "caching", "decision_logs", "discovery", "distributed_tracing", "keys", "labels", "plugins", "status",
	} {
		check(key, d[key])
	}
	if _, list := d["services"].([]any); !list {
		check("services", d["services"])
	}
	for _, key := range []string{"bundles", "keys", "services"} {
		section, _ := d[key].(map[string]any)
		for name, value := range section {
			object := check(key+"."+name, value)
			for _, inner := range []string{"polling", "signing", "credentials", "tls", "headers"} {
				check(key+"."+name+"."+inner, object[inner])
			}
		}
	}
	return errors.Join(problems...)
}

// refuseHaste refuses delays of no time. OPA takes them, and asks without end.
func (d document) refuseHaste() error {
	var problems []error
	check := func(path string, section any) {
		delays, _ := section.(map[string]any)
		for _, key := range []string{"min_delay_seconds", "max_delay_seconds"} {
			if seconds, ok := delays[key].(float64); ok && seconds < 1 {
				problems = append(problems, fmt.Errorf("opa.%s.%s: want 1 at least, have %v", path, key, seconds))
			}
		}
	}
	bundles, _ := d["bundles"].(map[string]any)
	for name, b := range bundles {
		source, _ := b.(map[string]any)
		check("bundles."+name+".polling", source["polling"])
	}
	discovery, _ := d["discovery"].(map[string]any)
	check("discovery.polling", discovery["polling"])
	log, _ := d["decision_logs"].(map[string]any)
	check("decision_logs.reporting", log["reporting"])
	return errors.Join(problems...)
}

// refuseServices refuses services whose URL is none. OPA takes them, and no request of its
// plugins is ever made.
func (d document) refuseServices() error {
	var problems []error
	check := func(path string, service any) {
		object, ok := service.(map[string]any)
		if !ok {
			return
		}
		text, _ := object["url"].(string)
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// What is there is not told: it can hold a password.
			problems = append(problems, fmt.Errorf("opa.services.%s.url: want http://host or https://host", path))
		}
	}
	switch services := d["services"].(type) {
	case map[string]any:
		for name, service := range services {
			check(name, service)
		}
	case []any:
		for i, service := range services {
			check(strconv.Itoa(i), service)
		}
	}
	return errors.Join(problems...)
}

// refuseManual refuses bundles that wait to be asked for: where a process serves, nobody asks.
func (d document) refuseManual() error {
	var problems []error
	check := func(path string, section any) {
		if object, _ := section.(map[string]any); object["trigger"] == "manual" {
			problems = append(problems, fmt.Errorf("opa.%s.trigger: with manual it is never loaded: leave it out", path))
		}
	}
	bundles, _ := d["bundles"].(map[string]any)
	for name, b := range bundles {
		check("bundles."+name, b)
	}
	check("discovery", d["discovery"])
	return errors.Join(problems...)
}

// leastChunk is what a chunk of the decision log may have at least, in bytes: OPA drops an
// event that does not fit into one.
const leastChunk = 16 << 10

// refuseSmall refuses chunks too small for an event where each event is required.
func (o Options) refuseSmall(d document) error {
	if !o.AuditRequired {
		return nil
	}
	log, _ := d["decision_logs"].(map[string]any)
	reporting, _ := log["reporting"].(map[string]any)
	if bytes, ok := reporting["upload_size_limit_bytes"].(float64); ok && bytes < leastChunk {
		return fmt.Errorf("opa.decision_logs.reporting.upload_size_limit_bytes: want %d at least, have %v: OPA drops an "+
			"event that does not fit", leastChunk, bytes)
	}
	return nil
}

// refuseFile refuses a file where OPA is to keep its bundles.
func (d document) refuseFile() error {
	path, _ := d["persistence_directory"].(string)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return fmt.Errorf("opa.persistence_directory: %s is a file: want a folder", path)
	}
	return nil
}

// refuseRequired refuses what cannot go together with stagedoor.audit.required.
func (o Options) refuseRequired(d document) error {
	if !o.AuditRequired {
		return nil
	}
	if d.has("discovery") {
		// What comes by it replaces decision_logs, and cannot be held to what is needed.
		return errors.New("opa.discovery: not with stagedoor.audit.required, which needs decision_logs from the start")
	}
	log, _ := d["decision_logs"].(map[string]any)
	if log == nil {
		return errors.New("stagedoor.audit.required: opa.decision_logs says nowhere where to record decisions")
	}
	reporting, _ := log["reporting"].(map[string]any)
	var problems []error
	if log["plugin"] != nil {
		problems = append(problems, errors.New("opa.decision_logs.plugin: not with stagedoor.audit.required"))
	}
	for _, key := range []string{"trigger", "max_decisions_per_second", "buffer_size_limit_bytes"} {
		if reporting[key] != nil {
			problems = append(problems, fmt.Errorf("opa.decision_logs.reporting.%s: "+
				"not with stagedoor.audit.required, which sends each decision before it is answered", key))
		}
	}
	if kind := reporting["buffer_type"]; kind != nil && kind != "event" {
		problems = append(problems, errors.New(
			"opa.decision_logs.reporting.buffer_type: stagedoor.audit.required needs the event buffer"))
	}
	return errors.Join(problems...)
}

// bundleDefaults bounds the size of bundles' files.
func (d document) bundleDefaults() {
	bundles, _ := d["bundles"].(map[string]any)
	for _, b := range bundles {
		if source, ok := b.(map[string]any); ok && source["size_limit_bytes"] == nil {
			source["size_limit_bytes"] = bundleFileBytes
		}
	}
}

// logDefaults fills in what suits decisions about people on every page load
// better than OPA's own defaults.
func (d document) logDefaults() {
	log, configured := d["decision_logs"].(map[string]any)
	if !configured {
		return
	}
	reporting, _ := log["reporting"].(map[string]any)
	defaults := map[string]any{"upload_size_limit_bytes": logChunkBytes}
	if reporting["buffer_type"] == nil && reporting["buffer_size_limit_bytes"] == nil {
		defaults["buffer_type"] = "event"
	}
	if reporting["buffer_type"] == "event" || defaults["buffer_type"] == "event" {
		defaults["buffer_size_limit_events"] = logEvents
	}
	// OPA's own bound is none, and it takes one beside a rate for a mistake.
	if reporting["buffer_type"] == "size" && reporting["max_decisions_per_second"] == nil {
		defaults["buffer_size_limit_bytes"] = BufferBytes
	}
	if reporting["min_delay_seconds"] == nil && reporting["max_delay_seconds"] == nil {
		defaults["min_delay_seconds"], defaults["max_delay_seconds"] = logDelayLeast, logDelayMost
	}
	maps.Copy(defaults, reporting)
	log["reporting"] = defaults
}

// takeTrigger leaves it to stagedoor when the decision log is sent, by the same schedule.
// Discovery forces one trigger on all plugins. The trigger that OPA 1.22 calls immediate
// stays where it is asked for: it keeps what does not fill a chunk until it is stopped.
func (d document) takeTrigger() {
	log, _ := d["decision_logs"].(map[string]any)
	reporting, _ := log["reporting"].(map[string]any) // which logDefaults has made
	if reporting != nil && (reporting["trigger"] == nil || reporting["trigger"] == "periodic") {
		reporting["trigger"] = "manual"
	}
}

// statusDefaults exports OPA's metrics, among them what the decision log dropped,
// unless a status that says nothing of them would mean another thing then.
func (d document) statusDefaults() {
	report, configured := d["status"].(map[string]any)
	switch {
	case d["status"] == nil && (d.has("bundles") || d.has("discovery") || d["decision_logs"] != nil):
		d["status"] = map[string]any{"prometheus": true}
	case configured && report["prometheus"] == nil && (report["service"] != nil || report["console"] == true):
		report["prometheus"] = true
	}
}

// witness lets stagedoor see what gets through the decision log's mask and drop
// rules.
func (d document) witness() {
	log, _ := d["decision_logs"].(map[string]any) // refuseRequired and logDefaults have seen to both
	log["plugin"] = witnessName
	plugins, _ := d["plugins"].(map[string]any)
	if plugins == nil {
		plugins = map[string]any{}
	}
	plugins[witnessName] = map[string]any{}
	d["plugins"] = plugins
}

// withoutEffect are keys of OPA for what stagedoor does in other ways, or not.
var withoutEffect = []string{
	"default_decision", "default_authorization_decision", "metrics_export",
	"nd_builtin_cache", "server", "storage",
}

// refuseIdle refuses the keys that have no effect.
func (d document) refuseIdle() error {
	var problems []error
	for _, key := range withoutEffect {
		if d[key] != nil {
			problems = append(problems,
				fmt.Errorf("opa.%s: has no effect here, since it is for OPA as a server; leave it out", key))
		}
	}
	return errors.Join(problems...)
}

// discovered holds configuration that arrives by discovery to the rules of that
// which was there at start. It is immutable.
type discovered struct{}

// OnConfigDiscovery implements OPA's hooks.ConfigDiscoveryHook.
func (discovered) OnConfigDiscovery(_ context.Context, c *config.Config) (*config.Config, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	d := document{}
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	if err := errors.Join(d.unknownKeys(c.Warnings), d.refuseBundle(), d.refuseHaste()); err != nil {
		return nil, err
	}
	d.bundleDefaults()
	d.logDefaults()
	changed := *c
	for key, section := range map[string]*json.RawMessage{
		"bundles": &changed.Bundles, "decision_logs": &changed.DecisionLogs,
	} {
		if d[key] == nil {
			continue
		}
		if *section, err = json.Marshal(d[key]); err != nil {
			return nil, err
		}
	}
	return &changed, nil
}

// knownKeys are the keys that OPA knows, as far as its types tell.
func knownKeys() []config.ConfigSpec {
	return slices.Concat(
		config.SpecsFromStruct[config.Config](),
		config.SpecsFromStruct[bundleplugin.Source]("bundles", "*"),
		config.SpecsFromStruct[discovery.Config]("discovery"),
		config.SpecsFromStruct[logs.Config]("decision_logs"),
		config.SpecsFromStruct[status.Config]("status"),
		config.SpecsFromStruct[opakeys.Config]("keys", "*"),
		[]config.ConfigSpec{
			{Pattern: []string{"services", "*"}, Keys: []string{
				"name", "url", "headers", "allow_insecure_tls", "response_header_timeout_seconds", "tls", "credentials", "type",
			}},
			{Pattern: []string{"services", "*", "credentials"}, Keys: []string{
				"bearer", "oauth2", "client_tls", "s3_signing", "gcp_metadata", "azure_managed_identity", "plugin",
			}},
		},
	)
}

// unknownKeys is an error for every key that OPA does not know: by its types, and
// elsewhere by what it warned of itself, since its own list lacks keys that its
// types have.
func (d document) unknownKeys(warnings []string) error {
	var problems []error
	looked := map[string]bool{}
	specs := knownKeys()
	var walk func(value any, path []string)
	walk = func(value any, path []string) {
		if list, ok := value.([]any); ok {
			for i, element := range list {
				walk(element, append(slices.Clone(path), strconv.Itoa(i)))
			}
			return
		}
		object, _ := value.(map[string]any)
		spec := slices.IndexFunc(specs, func(s config.ConfigSpec) bool { return matches(s.Pattern, path) })
		for _, key := range slices.Sorted(maps.Keys(object)) {
			at := append(slices.Clone(path), key)
			if spec >= 0 {
				looked[strings.Join(at, ".")] = true
				if keys := specs[spec].Keys; !slices.Contains(keys, key) {
					problems = append(problems, fmt.Errorf("opa.%s: unknown key; the nearest known one is opa.%s",
						strings.Join(at, "."), strings.Join(append(slices.Clone(path), nearest(key, keys)), ".")))
					continue
				}
			}
			walk(object[key], at)
		}
	}
	walk(map[string]any(d), nil)
	for _, warning := range warnings {
		// unknown configuration option "services.acme.ulr" encountered
		if _, rest, quoted := strings.Cut(warning, `"`); quoted {
			if key, _, _ := strings.Cut(rest, `"`); !looked[key] {
				problems = append(problems, fmt.Errorf("opa.%s: unknown key", key))
			}
			continue
		}
		problems = append(problems, fmt.Errorf("opa: %s", warning))
	}
	return errors.Join(problems...)
}

func matches(pattern, path []string) bool {
	return slices.EqualFunc(pattern, path, func(p, step string) bool { return p == "*" || p == step })
}

// nearest is the key that is most like an unknown one, of those that may be used.
func nearest(key string, keys []string) string {
	usable := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == "bundle" })
	return spelling.Nearest(key, usable)
}
