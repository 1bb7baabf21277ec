package conditions

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions/rules"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// fastPlugin answers as quickly as it can be done: ALLOW for 25 refs, asked about
// by array or one by one.
func fastPlugin(b *testing.B) *httptest.Server {
	array := []byte(`{"items":[{"id":"0","result":["ALLOW"` + strings.Repeat(`,"ALLOW"`, 24) + `]}]}`)
	var singles strings.Builder
	for i := range 25 {
		fmt.Fprintf(&singles, `,{"id":"%d","result":"ALLOW"}`, i)
	}
	items := []byte(`{"items":[` + singles.String()[1:] + `]}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body[:200]), `"resourceRef":[`) {
			_, _ = w.Write(array)
		} else {
			_, _ = w.Write(items)
		}
	}))
	b.Cleanup(server.Close)
	return server
}

// fifty are 50 questions of one ref each over two plugins, with conditions of 20
// leaves; the conditions of a plugin are all the same, or all different.
func fifty(different bool) []Question {
	var questions []Question
	for i := range 50 {
		c := criteria.Criteria{Op: criteria.AnyOf}
		for j := range 20 {
			c.Of = append(c.Of, oneOf(fmt.Sprint("group:default/team-", j)))
		}
		if different {
			c.Of[0] = oneOf(strconv.Itoa(i))
		}
		questions = append(questions, ask([]string{"catalog", "todo"}[i%2], c, fmt.Sprint("component:default/service-", i)))
	}
	if !different {
		for i := range questions {
			questions[i].Decision.Conditions = questions[0].Decision.Conditions
		}
	}
	return questions
}

func BenchmarkApply(b *testing.B) {
	for _, bench := range []struct {
		name      string
		different bool
	}{{"50refs/equal", false}, {"50refs/different", true}} {
		questions := fifty(bench.different)
		b.Run(bench.name, func(b *testing.B) {
			c := newClient(b, Options{}, fastPlugin(b).URL)
			b.ReportAllocs()
			for b.Loop() {
				if o := c.Apply(b.Context(), ann(), questions); o[49].Err != nil {
					b.Fatal(o[49].Err)
				}
			}
		})
		b.Run(bench.name+"/parallel", func(b *testing.B) {
			c := newClient(b, Options{}, fastPlugin(b).URL)
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				caller := Caller{Subject: "", Token: token("ann")} // nothing to share
				for pb.Next() {
					if o := c.Apply(b.Context(), caller, questions); o[49].Err != nil {
						b.Error(o[49].Err)
					}
				}
			})
		})
		b.Run(bench.name+"/encode", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, in := range newBatch(questions).inquiries {
					for range pack(in.spans(), true) {
					}
				}
			}
		})
	}
}

// BenchmarkRoundTrip is the floor: two bare posts of net/http, side by side, of
// bodies as large as those of BenchmarkApply/50refs/equal.
func BenchmarkRoundTrip(b *testing.B) {
	server := fastPlugin(b)
	body := string(slices.Collect(pack(newBatch(fifty(false)).inquiries[0].spans(), true))[0].body)
	transport := newTransport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	post := func() {
		resp, err := client.Post(server.URL, "application/json", strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	b.ReportAllocs()
	for b.Loop() {
		done := make(chan struct{})
		go func() { post(); close(done) }()
		post()
		<-done
	}
}

func BenchmarkCheck(b *testing.B) {
	set, err := rules.Read([]byte(readTestdata(b, "metadata.json")))
	if err != nil {
		b.Fatal(err)
	}
	c := newClient(b, Options{}, "http://127.0.0.1:1")
	p := c.plugin("todo")
	p.published.rules.Store(&known{rules: set})
	p.published.fetched.set(time.Now().Add(time.Hour))
	p.published.tried.set(time.Now().Add(time.Hour))
	d := fifty(false)[0].Decision
	d = wire.NewConditional("todo", d.ResourceType, d.Conditions)
	b.Run("20leaves/remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Check(d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown plugin", func(b *testing.B) {
		c.plugin("none").published.tried.set(time.Now().Add(time.Hour))
		none := d
		none.PluginID = "none"
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Check(none); err != nil {
				b.Fatal(err)
			}
		}
	})
}
