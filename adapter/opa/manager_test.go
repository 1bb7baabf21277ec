package opa_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/opa"
)

func TestKeysWithoutEffectAreRefused(t *testing.T) {
	err := opa.Options{Config: json.RawMessage(`{"server": {}, "nd_builtin_cache": true, "labels": {"a": "b"}}`)}.Validate()
	if err == nil {
		t.Fatal("not refused")
	}
	fixture.Contains(t, err.Error(), "opa.server: has no effect here", "opa.nd_builtin_cache: has no effect here")
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
