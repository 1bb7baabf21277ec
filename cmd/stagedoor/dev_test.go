package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// curl matches the curl lines that --dev prints: URL, bearer token, body.
var curl = regexp.MustCompile(`^curl -s (\S+) -H 'content-type: application/json' -H 'authorization: Bearer (\S+)' -d '(.*)'$`)

// TestDevRoad does what the printed curl lines say.
func TestDevRoad(t *testing.T) {
	want := []string{
		`{"items":[{"id":"1","result":"ALLOW"}]}`,
		`{"items":[{"id":"1","result":"DENY"}]}`,
		`{"items":[{"id":"1","result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item","conditions":{"allOf":[` +
			`{"rule":"IS_OWNER","resourceType":"todo-item","params":{"userId":"user:default/alice"}},` +
			`{"not":{"rule":"HAS_STATUS","resourceType":"todo-item","params":{"statuses":["archived"]}}}]}}]}`,
		`{"items":[{"id":"1","result":["ALLOW","DENY"]}]}`,
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	lines, ended := startDev(ctx, t)
	for i := 0; i < len(want); {
		line, ok := <-lines
		if !ok {
			t.Fatalf("%d curl lines, want %d; %v", i, len(want), <-ended)
		}
		match := curl.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		if got := ask(t, match[1], match[2], match[3]); got != want[i] {
			t.Errorf("%s\nanswers %s\nwant    %s", line, got, want[i])
		}
		i++
	}
	stop()
	for range lines { // what else it prints
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// startDev runs serve --dev on free ports. Lines are what it prints.
func startDev(ctx context.Context, t *testing.T) (lines <-chan string, ended <-chan error) {
	t.Helper()
	config := t.TempDir() + "/config.yaml"
	writeConfig(t, config, `stagedoor: {listen: "127.0.0.1:0", admin: {listen: "127.0.0.1:0"}}`)
	reader, writer := io.Pipe()
	root := newRoot()
	root.SetArgs([]string{"serve", "--dev", "--config", config})
	root.SetOut(writer)
	result := make(chan error, 1)
	go func() {
		result <- root.ExecuteContext(ctx)
		writer.Close()
	}()
	printed := make(chan string)
	go func() {
		defer close(printed)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			printed <- scanner.Text()
		}
	}()
	return printed, result
}

func ask(t *testing.T, url, token, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
