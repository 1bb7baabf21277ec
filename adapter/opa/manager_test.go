package opa_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/fixture"
)

func TestKeysWithoutEffectAreToldOf(t *testing.T) {
	log, text := fixture.NewLog()
	fixture.New(t, fixture.Options{Log: log, Default: fixture.FS(fixture.Allowing("1", "x")), OPA: json.RawMessage(`{"server": {}, "nd_builtin_cache": true}`)})
	fixture.Contains(t, text.String(), "opa.server has no effect", "opa.nd_builtin_cache has no effect")
}

func TestMetricsOfOPAAreExported(t *testing.T) {
	s := fixture.NewServer(t)
	s.Put("authz", fixture.Archive(t, fixture.Allowing("rev-7", "x")))
	registry := prometheus.NewRegistry()
	e := fixture.New(t, fixture.Options{OPA: fixture.OPA(t, s, nil, "authz"), Registry: registry})
	e.MustFetch(t, "authz")
	fixture.Eventually(t, "the revision in OPA's metrics", func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "last_success_bundle_activation" {
				return strings.Contains(family.String(), "rev-7")
			}
		}
		return false
	})
}
