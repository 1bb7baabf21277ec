package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestInit writes a policy to start from and runs, as they stand, the scripts of its CI
// for GitHub Actions and for GitLab and its hook, with the stock opa. CI is the same for
// all policies; testdata/script/init.txtar tests and checks each of them.
func TestInit(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "opa"), "github.com/open-policy-agent/opa")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stagedoor, err := exec.LookPath("stagedoor") // TestMain has put it there
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, name := range []string{"regulated"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "policy")
			if out, err := exec.CommandContext(t.Context(), stagedoor, "init", "--from", name, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for file, script := range map[string]string{
				"policy.yaml":    githubScript(t, filepath.Join(dir, ".github", "workflows", "policy.yaml")),
				".gitlab-ci.yml": gitlabScript(t, filepath.Join(dir, ".gitlab-ci.yml")),
				"pre-commit":     ".githooks/pre-commit",
			} {
				command := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
				command.Dir = dir
				if out, err := command.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", file, err, out)
				}
			}
			for file, want := range map[string]string{"junit.xml": "<testsuites", "stagedoor.sarif": `"version": "2.1.0"`} {
				text, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || !bytes.Contains(bytes.ReplaceAll(text, []byte(`":"`), []byte(`": "`)), []byte(want)) {
					t.Errorf("%s: %v\n%.200s", file, err, text)
				}
			}
		})
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func githubScript(t *testing.T, file string) string {
	t.Helper()
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	readYAML(t, file, &workflow)
	var script strings.Builder
	for _, step := range workflow.Jobs["policy"].Steps {
		script.WriteString(step.Run + "\n")
	}
	return script.String()
}

func gitlabScript(t *testing.T, file string) string {
	t.Helper()
	var jobs map[string]struct {
		Before []string `yaml:"before_script"`
		Script []string `yaml:"script"`
	}
	readYAML(t, file, &jobs)
	return strings.Join(append(jobs["policy"].Before, jobs["policy"].Script...), "\n")
}
