package endpoint

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestGauges tells how many connections there are, and for how long the certificate is
// valid that serves.
func TestGauges(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("one", "server", a)
	secure := serve(t, Options{TLS: &TLS{CertFile: cert, KeyFile: key}}, echo, quiet())
	plain := serve(t, Options{Connections: 7}, echo, quiet())
	_, err := get(t, a.client("", "", true), secure.URL()) // HTTP/2, which stays
	check(t, err)
	registry := prometheus.NewRegistry()
	registry.MustRegister(Gauges{"api": secure, "admin": plain})
	families, err := registry.Gather()
	check(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"stagedoor_connections api": 1, "stagedoor_connections admin": 0,
		"stagedoor_connections_limit api": 100, "stagedoor_connections_limit admin": 7,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if left := got["stagedoor_certificate_remaining_seconds api"]; left < 3000 || left > 3600 {
		t.Errorf("%v s are left of an hour", left)
	}
	if len(got) != 5 { // the plain one has no certificate
		t.Errorf("%v", got)
	}
}
