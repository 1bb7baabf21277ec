package opa

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestSecretsStayOutOfOPAsLines(t *testing.T) {
	var text bytes.Buffer
	log := logrus.New()
	log.SetOutput(&text)
	log.SetFormatter(&logrus.JSONFormatter{})
	logger{logrus.NewEntry(log)}.WithFields(map[string]any{
		"headers": map[string][]string{"Private-Token": {"SECRET"}}, "response": "SECRET", "url": "http://x?k=SECRET", "name": "authz", "n": 1,
	}).Error("no %s", "http://x?k=SECRET")
	if strings.Contains(text.String(), "SECRET") {
		t.Errorf("a secret in %s", text.String())
	}
	for _, part := range []string{`"name":"authz"`, `"n":1`, `"url":"http://x?…"`, "no http://x?…"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%s\ndoes not contain %s", text.String(), part)
		}
	}
}
