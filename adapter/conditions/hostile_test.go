package conditions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
)

const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwZXJtaXNzaW9uIn0.c2lnbmF0dXJl"

func jwtSource(context.Context, string) (string, error) { return jwt, nil }

// echo answers with bytes in which the caller's token stands.
func echo(answer string) func(http.ResponseWriter, *http.Request, string, int) bool {
	return func(w http.ResponseWriter, r *http.Request, _ string, _ int) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, answer, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		return true
	}
}

// A plugin that sends tokens back, wherever net/http or a check of ours would
// quote them, gets them into no error and no log line.
func TestEchoedTokensAreNotQuoted(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
	rules := func(rule string) string { return ok + `{"rules":[` + rule + `]}` }
	for name, answer := range map[string]string{
		"status":   "HTTP/1.1 %s\r\n\r\n",
		"header":   "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"location": "HTTP/1.1 302 Found\r\nLocation: http://[%s\r\nContent-Length: 0\r\n\r\n",
		"chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
		"rule":     rules(`{"name":"%s","resourceType":"thing","paramsSchema":{"type":1}}`),
		"type":     rules(`{"name":"IS_OLD","resourceType":"%s"}`),
		"schema": rules(`{"name":"IS_OLD","resourceType":"thing","paramsSchema":` +
			`{"type":"object","properties":{},"required":["%s"]}}`),
		"broken schema": rules(`{"name":"IS_OLD","resourceType":"thing","paramsSchema":{"$ref":"http://%s"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, logged, stop := serveMemory(t, &fakePlugin{fault: echo(answer)}, Options{Timeout: time.Second})
				defer stop()
				c.metadata.service = jwtSource
				noToken := func(text string) {
					t.Helper()
					if strings.Contains(text, "eyJ") || strings.Contains(text, "c2lnbmF0dXJl") {
						t.Error(text)
					}
				}
				for _, subject := range []string{"", "ann"} {
					err := c.Apply(t.Context(), Caller{Subject: subject, Token: jwtSource},
						[]Question{ask("todo", oneOf("a"), "a")})[0].Err
					if err == nil {
						t.Error("no error")
					}
					for ; err != nil; err = errors.Unwrap(err) {
						noToken(fmt.Sprintf("%v %+v", err, err))
					}
				}
				_ = c.Check(badThing)
				synctest.Wait()
				if err := c.Check(badThing); err != nil {
					noToken(err.Error())
				}
				if !strings.Contains(logged.String(), `"plugin":"todo"`) {
					t.Errorf("the log does not tell of the metadata: %s", logged)
				}
				noToken(logged.String())
			})
		})
	}
}

// Another's token in what a plugin publishes is kept out of the log too.
func TestProblemsOfSchemasAreLoggedWithoutTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{metadata: `{"rules":[{"name":"` + jwt + `","resourceType":"thing","paramsSchema":{"type":1}}]}`}
		c, _, logged, stop := serveMemory(t, p, Options{})
		defer stop()
		_ = c.Check(badThing)
		synctest.Wait()
		if text := logged.String(); !strings.Contains(text, "cannot be checked") || strings.Contains(text, "eyJ") {
			t.Error(text)
		}
	})
}

// A panic while a plugin is asked ends neither the process nor the waiting.
func TestPanicsAreErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, logged, stop := serveMemory(t, &fakePlugin{}, Options{})
		defer stop()
		panics := func(_ context.Context, pluginID string) (string, error) {
			if pluginID == "todo" {
				panic(jwt)
			}
			return "", nil
		}
		for _, subject := range []string{"", "ann"} {
			o := c.Apply(t.Context(), Caller{Subject: subject, Token: panics},
				[]Question{ask("todo", oneOf("a"), "a"), ask("good", oneOf("a"), "a")})
			if kind(o[0].Err) != any(guard.UnavailableError{PluginID: "todo"}) || o[0].Results != nil || results(o[1]) != "A" ||
				!strings.Contains(o[0].Err.Error(), "panic") || strings.Contains(o[0].Err.Error(), "eyJ") {
				t.Errorf("%v", o)
			}
		}
		c.metadata.service = panics
		_ = c.Check(badThing)
		synctest.Wait()
		if text := logged.String(); !strings.Contains(text, "panic") || strings.Contains(text, "eyJ") {
			t.Errorf("log: %s", text)
		}
	})
}

// What is logged on behalf of a caller carries the caller's fields.
func TestLogOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, logged, stop := serveMemory(t, &fakePlugin{old: true, fault: func(
			w http.ResponseWriter, _ *http.Request, _ string, n int,
		) bool {
			if n == 1 {
				respond(w, 503, "")
			}
			return n == 1
		}}, Options{})
		defer stop()
		for _, subject := range []string{"", "ann"} {
			plugin := "todo" + subject
			caller := Caller{Subject: subject, Log: c.log.WithFields(logrus.Fields{"request_id": plugin})}
			if o := c.Apply(t.Context(), caller, []Question{ask(plugin, oneOf("a"), "a", "b")}); results(o[0]) != "AD" {
				t.Fatal(o)
			}
			for _, message := range []string{"trying again", "no arrays"} {
				found := false
				for line := range strings.Lines(logged.String()) {
					found = found || strings.Contains(line, message) && strings.Contains(line, `"request_id":"`+plugin+`"`)
				}
				if !found {
					t.Errorf("no line of %s says %q:\n%s", plugin, message, logged)
				}
			}
		}
	})
}
