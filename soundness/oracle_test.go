package soundness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// An oracle is the rules of the published Backstage packages, in a Node process of their own: see oracle/oracle.mjs.
type oracle struct {
	url    string
	client *http.Client
}

// newOracle starts the process, which ends with the test. Without Node or the packages in project it returns nil.
func newOracle(t testing.TB, project string) *oracle {
	if _, err := exec.LookPath("node"); err != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(project, "node_modules", "@backstage", "plugin-scaffolder-backend")); err != nil {
		return nil
	}
	cmd := exec.Command("node", "oracle/oracle.mjs", project)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("oracle: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("oracle: %v", err)
	}
	return &oracle{strings.TrimSpace(line), &http.Client{Timeout: 10 * time.Minute}}
}

// A condition is criteria with the resources, by number, to which they are to be applied.
type condition struct {
	criteria  criteria.Criteria
	resources []int
}

// apply returns what Backstage's apply-conditions answers for each condition and each of its resources, or how it
// refuses them.
func (o *oracle) apply(ctx context.Context, resourceType string, resources []any, conditions []condition,
) (answers [][]answer, refused string, err error) {
	type item struct {
		ID           string          `json:"id"`
		ResourceRef  []string        `json:"resourceRef"`
		ResourceType string          `json:"resourceType"`
		Conditions   json.RawMessage `json:"conditions"`
	}
	request := struct {
		Resources map[string]any `json:"resources"`
		Items     []item         `json:"items"`
	}{Resources: map[string]any{}}
	for i, resource := range resources {
		request.Resources[strconv.Itoa(i)] = resource
	}
	for i, c := range conditions {
		it := item{ID: strconv.Itoa(i), ResourceType: resourceType, Conditions: c.criteria.AppendJSON(nil)}
		for _, resource := range c.resources {
			it.ResourceRef = append(it.ResourceRef, strconv.Itoa(resource))
		}
		request.Items = append(request.Items, it)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, "", err
	}
	var response struct {
		Items []struct {
			Result []string `json:"result"`
		} `json:"items"`
	}
	status, text, err := o.post(ctx, body)
	switch {
	case err != nil:
		return nil, "", err
	case status != http.StatusOK:
		return nil, fmt.Sprintf("apply-conditions: %d: %s", status, text), nil
	}
	if err := json.Unmarshal(text, &response); err != nil {
		return nil, "", err
	}
	answers = make([][]answer, len(conditions))
	for i, it := range response.Items {
		for _, result := range it.Result {
			given, ok := map[string]answer{"ALLOW": allow, "DENY": deny}[result]
			if !ok {
				return nil, fmt.Sprintf("apply-conditions answered %q", result), nil
			}
			answers[i] = append(answers[i], given)
		}
	}
	return answers, "", nil
}

func (o *oracle) post(ctx context.Context, body []byte) (status int, text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := o.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	return res.StatusCode, text, err
}
