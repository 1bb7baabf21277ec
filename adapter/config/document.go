package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/go-viper/mapstructure/v2"

	"github.com/stagedoor/stagedoor/adapter/appconfig"
	"github.com/stagedoor/stagedoor/adapter/spelling"
)

// document is the configuration as it is written. Backend and Discovery have the
// keys of Backstage that stagedoor reads, out of many; the rest is its own.
type document struct {
	Backend   backend   `mapstructure:"backend"`
	Discovery endpoints `mapstructure:"discovery"`
	Stagedoor own       `mapstructure:"stagedoor"`
}

type backend struct {
	BaseURL string `mapstructure:"baseUrl"`
	CORS    *cors  `mapstructure:"cors"`
	// Lifecycle is Backstage's, of which stagedoor has one key.
	Lifecycle struct {
		ServerShutdownDelay humanDuration `mapstructure:"serverShutdownDelay"`
	} `mapstructure:"lifecycle"`
	Auth struct {
		DangerouslyDisableDefaultAuthPolicy bool     `mapstructure:"dangerouslyDisableDefaultAuthPolicy"`
		PluginKeyStore                      keyStore `mapstructure:"pluginKeyStore"`
	} `mapstructure:"auth"`
}

type cors struct {
	Origin         oneOrMany `mapstructure:"origin"`
	Methods        oneOrMany `mapstructure:"methods"`
	AllowedHeaders oneOrMany `mapstructure:"allowedHeaders"`
	ExposedHeaders oneOrMany `mapstructure:"exposedHeaders"`
	Credentials    bool      `mapstructure:"credentials"`
	MaxAge         int       `mapstructure:"maxAge"`
}

type keyStore struct {
	Type   string `mapstructure:"type"`
	Static struct {
		Keys []struct {
			PublicKeyFile  string `mapstructure:"publicKeyFile"`
			PrivateKeyFile string `mapstructure:"privateKeyFile"`
			KeyID          string `mapstructure:"keyId"`
			Algorithm      string `mapstructure:"algorithm"`
		} `mapstructure:"keys"`
	} `mapstructure:"static"`
}

type endpoints struct {
	Endpoints []struct {
		Target  target    `mapstructure:"target"`
		Plugins oneOrMany `mapstructure:"plugins"`
	} `mapstructure:"endpoints"`
}

// target is a URL, or one for inside and one for outside, of which only the
// former concerns a backend.
type target struct {
	Internal string `mapstructure:"internal"`
	External string `mapstructure:"external"`
}

// oneOrMany is a list, or its single element.
type oneOrMany []string

type own struct {
	Listen   string `mapstructure:"listen"`
	BasePath string `mapstructure:"basePath"`
	TLS      *tls   `mapstructure:"tls"`
	H2C      bool   `mapstructure:"h2c"`
	Admin    struct {
		Listen string    `mapstructure:"listen"`
		TLS    *tls      `mapstructure:"tls"`
		H2C    bool      `mapstructure:"h2c"`
		Token  oneOrMany `mapstructure:"token"`
		Data   bool      `mapstructure:"data"`
		// DataRoots are where data is written.
		DataRoots []string `mapstructure:"dataRoots"`
		Pprof     bool     `mapstructure:"pprof"`
		Strict    bool     `mapstructure:"strict"`
	} `mapstructure:"admin"`
	Policy struct {
		Path       string        `mapstructure:"path"`
		Entrypoint string        `mapstructure:"entrypoint"`
		OnError    string        `mapstructure:"onError"`
		MaxAge     time.Duration `mapstructure:"maxAge"`
		OnStale    string        `mapstructure:"onStale"`
		// Capabilities are what policies may reach.
		Capabilities struct {
			AllowNet      []string `mapstructure:"allowNet"`
			AllowBuiltins []string `mapstructure:"allowBuiltins"`
		} `mapstructure:"capabilities"`
		Shadow *candidate    `mapstructure:"shadow"`
		Remote *remoteServer `mapstructure:"remote"`
	} `mapstructure:"policy"`
	Limits struct {
		Body     byteSize `mapstructure:"body"`
		Items    int      `mapstructure:"items"`
		Answer   byteSize `mapstructure:"answer"`
		InFlight int      `mapstructure:"inFlight"`
		// Connections are those of the permission API.
		Connections int           `mapstructure:"connections"`
		Memory      byteSize      `mapstructure:"memory"`
		Data        byteSize      `mapstructure:"data"`
		Decision    time.Duration `mapstructure:"decision"`
	} `mapstructure:"limits"`
	Caches struct {
		Decisions byteSize `mapstructure:"decisions"`
		Tokens    byteSize `mapstructure:"tokens"`
		UserInfo  byteSize `mapstructure:"userInfo"`
	} `mapstructure:"caches"`
	Conditions struct {
		Timeout time.Duration `mapstructure:"timeout"`
	} `mapstructure:"conditions"`
	Permissions struct {
		FromMetadata bool `mapstructure:"fromMetadata"`
	} `mapstructure:"permissions"`
	Identity struct {
		UserInfoTTL   time.Duration `mapstructure:"userInfoTtl"`
		UserInfoStale time.Duration `mapstructure:"userInfoStale"`
		Leeway        time.Duration `mapstructure:"leeway"`
		Precompute    bool          `mapstructure:"precompute"`
	} `mapstructure:"identity"`
	Audit struct {
		Required bool `mapstructure:"required"`
		Callers  bool `mapstructure:"callers"`
	} `mapstructure:"audit"`
	Log struct {
		Level string `mapstructure:"level"`
	} `mapstructure:"log"`
}

// tls names the files of an endpoint's certificates.
type tls struct {
	CertFile     string `mapstructure:"certFile"`
	KeyFile      string `mapstructure:"keyFile"`
	ClientCAFile string `mapstructure:"clientCAFile"`
}

// candidate is a policy that is compared with the one that serves.
type candidate struct {
	Path  string   `mapstructure:"path"`
	Share *float64 `mapstructure:"share"`
}

type remoteServer struct {
	URL       string `mapstructure:"url"`
	Token     string `mapstructure:"token"`
	TokenFile string `mapstructure:"tokenFile"`
	CAFile    string `mapstructure:"caFile"`
	CertFile  string `mapstructure:"certFile"`
	KeyFile   string `mapstructure:"keyFile"`
	Parallel  int    `mapstructure:"parallel"`
}

// byteSize is a number of bytes, written as 10MiB or 500kB.
type byteSize int64

// defaults is the document before any file is read.
func defaults() document {
	var d document
	d.Stagedoor.Listen = "127.0.0.1:7008"
	d.Stagedoor.BasePath = "/api/permission"
	d.Stagedoor.Admin.Listen = "127.0.0.1:7009"
	d.Stagedoor.Admin.Data = true
	d.Backend.Lifecycle.ServerShutdownDelay = humanDuration(5 * time.Second)
	d.Stagedoor.Limits.Connections = 10_000
	d.Stagedoor.Policy.OnError = "fail"
	d.Stagedoor.Policy.OnStale = "serve"
	d.Stagedoor.Limits.Body = 10 << 20
	d.Stagedoor.Limits.Items = 10_000
	d.Stagedoor.Limits.Answer = 32 << 20
	d.Stagedoor.Limits.InFlight = 1024
	d.Stagedoor.Limits.Data = 64 << 20
	d.Stagedoor.Limits.Decision = time.Second
	d.Stagedoor.Caches.Decisions = 96 << 20
	d.Stagedoor.Caches.Tokens = 32 << 20
	d.Stagedoor.Caches.UserInfo = 32 << 20
	d.Stagedoor.Permissions.FromMetadata = true
	d.Stagedoor.Conditions.Timeout = 10 * time.Second
	d.Stagedoor.Identity.UserInfoTTL = 5 * time.Second
	d.Stagedoor.Identity.Precompute = true
	d.Stagedoor.Log.Level = "info"
	return d
}

// readKeys are the keys that the document has, and all of OPA's.
func readKeys() appconfig.Keys {
	keys := keysOf(reflect.TypeFor[document]())
	keys[ownSection], keys[opaSection] = nil, nil
	return keys
}

// keysOf are the keys that a type has; nil where it is no object, and read as a whole.
func keysOf(t reflect.Type) appconfig.Keys {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := appconfig.Keys{}
	for field := range t.Fields() {
		keys[field.Tag.Get("mapstructure")] = keysOf(field.Type)
	}
	return keys
}

// nearlyOurs adds the top-level keys that nobody but stagedoor can be meant by.
func (p *problems) nearlyOurs(top []string) {
	for _, key := range top {
		plain := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(key))
		switch {
		case key != ownSection && spelling.Near(plain, ownSection):
			p.add(key, "unknown key; the nearest known one is %s", ownSection)
		case key != opaSection && plain == opaSection:
			p.add(key, "unknown key; the nearest known one is %s", opaSection)
		}
	}
}

// decode fills d from the merged configuration. Keys that are not known are
// refused under stagedoor, and left alone elsewhere, where they are Backstage's.
func decode(raw map[string]any, d *document) problems {
	var found problems
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:           d,
		MatchName:        func(key, field string) bool { return key == field },
		WeaklyTypedInput: false,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			humanHook, durationHook, listHook, targetHook, sizeHook, scalarHook, kindHook),
	})
	if err != nil {
		found.add("", "%v", err)
		return found
	}
	found.addDecoding(decoder.Decode(raw))
	if ownKeys, ok := raw[ownSection].(map[string]any); ok {
		found.unknown(ownSection, ownKeys, reflect.TypeFor[own]())
	}
	return found
}

// unknown adds every key of the object at path that a struct of type t has not.
func (p *problems) unknown(path string, object map[string]any, t reflect.Type) {
	fields := fieldsOf(t)
	for key, value := range object {
		field, known := fields[key]
		if !known {
			known := appconfig.Join(path, spelling.Nearest(key, slices.Collect(maps.Keys(fields))))
			p.add(appconfig.Join(path, key), "unknown key; the nearest known one is %s", known)
			continue
		}
		if inner, ok := value.(map[string]any); ok && len(fieldsOf(field)) > 0 {
			p.unknown(appconfig.Join(path, key), inner, field)
		}
	}
}

// fieldsOf is the type of each key of an object that t describes; none where t is
// no struct.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fields := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			fields[t.Field(i).Tag.Get("mapstructure")] = t.Field(i).Type
		}
	}
	return fields
}

// joinedError is what errors.Join makes.
type joinedError interface {
	error
	Unwrap() []error
}

// addDecoding adds what mapstructure found wrong.
func (p *problems) addDecoding(err error) {
	if err == nil {
		return
	}
	// Not errors.AsType: it would find the first of those that are joined, too.
	switch one := err.(type) { //nolint:errorlint // see above
	case *mapstructure.DecodeError:
		p.add(strings.TrimPrefix(one.Name(), "."), "%v", one.Unwrap())
		return
	default:
		if joined, ok := errors.AsType[joinedError](err); ok {
			for _, each := range joined.Unwrap() {
				p.addDecoding(each)
			}
			return
		}
	}
	p.add("", "%v", err)
}

func listHook(_, to reflect.Type, value any) (any, error) {
	if text, ok := value.(string); ok && to == reflect.TypeFor[oneOrMany]() {
		return []string{text}, nil
	}
	return value, nil
}

func targetHook(from, to reflect.Type, value any) (any, error) {
	if to == reflect.TypeFor[target]() && from.Kind() == reflect.String {
		return map[string]any{"internal": value, "external": value}, nil
	}
	return value, nil
}

// durationHook reads a duration as Go writes it, such as 1m30s, or as Backstage does.
func durationHook(from, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() || from == to {
		return value, nil
	}
	if text, ok := value.(string); ok {
		if duration, err := time.ParseDuration(text); err == nil {
			return duration, nil
		}
	}
	nanoseconds, err := humanHook(from, reflect.TypeFor[humanDuration](), value)
	if err != nil {
		return nil, err
	}
	return nanoseconds, nil
}

func sizeHook(_, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	if !ok || to != reflect.TypeFor[byteSize]() {
		return value, nil
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size > 1<<40 {
		return nil, fmt.Errorf("want a size such as 10MiB, have %q", value)
	}
	return int64(size), nil
}

// kindHook says what is there in place of what was to be, where the hooks before it left
// a value that cannot be taken.
func kindHook(from, to reflect.Type, value any) (any, error) {
	for to.Kind() == reflect.Pointer {
		to = to.Elem()
	}
	want := ""
	switch _, object := value.(map[string]any); {
	case from == to || value == nil:
	case to.Kind() == reflect.Struct && !object:
		want = "an object"
	case to.Kind() == reflect.Slice && from.Kind() != reflect.Slice:
		want = "a list"
	case to.Kind() == reflect.Bool && from.Kind() != reflect.Bool:
		want = "true or false"
	case to.Kind() == reflect.String && from.Kind() != reflect.String:
		want = "a text, in quotes"
	case to == reflect.TypeFor[byteSize]() && from.Kind() != reflect.Int64:
		want = "a size such as 10MiB"
	case isNumber(to) && !isNumber(from):
		want = "a number"
	}
	if want == "" {
		return value, nil
	}
	return nil, fmt.Errorf("want %s, have %s", want, kindOf(value))
}

func isNumber(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 }

// kindOf names a value without telling a text, which can be a secret.
func kindOf(value any) string {
	switch reflect.ValueOf(value).Kind() {
	case reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return fmt.Sprint(value)
	}
	return fmt.Sprintf("the number %v", value)
}

// The texts that Backstage takes for true and false.
var (
	trueText  = regexp.MustCompile(`(?i)^(?:y|yes|true|1|on)$`)
	falseText = regexp.MustCompile(`(?i)^(?:n|no|false|0|off)$`)
)

// scalarHook takes texts and numbers for what they spell, as Backstage's reader does.
func scalarHook(_, to reflect.Type, value any) (any, error) {
	var text string
	switch v := value.(type) {
	case string:
		text = strings.TrimSpace(v)
	case int64, float64:
		text = fmt.Sprint(v)
	default:
		return value, nil
	}
	switch to.Kind() {
	case reflect.Bool:
		switch {
		case trueText.MatchString(text):
			return true, nil
		case falseText.MatchString(text):
			return false, nil
		}
	case reflect.Int, reflect.Int64:
		if to == reflect.TypeFor[time.Duration]() {
			break
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, errors.New("want a number")
		}
		if f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 && to.Kind() == reflect.Int {
			return nil, fmt.Errorf("want a whole number, have %v", value)
		}
		return int64(f), nil
	}
	return value, nil
}
