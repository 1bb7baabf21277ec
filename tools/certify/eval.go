package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A rule is what METADATA says of a permission rule's function.
type rule struct {
	PluginID     string `json:"pluginId"`
	ResourceType string `json:"resourceType"`
	Rule         string `json:"rule"`
	// AnyOf is the parameter whose list means "any of", or empty.
	AnyOf string `json:"anyOf"`
}

// policy is what is known of the bundles.
type policy struct {
	rules       map[string]rule // by function
	entrypoints []string        // that METADATA names
	revisions   []string        // that manifests name
	changing    []string        // builtins that answer otherwise at another time
}

// inspect returns what METADATA and manifests say, and the builtins that are called.
func inspect(opa string, bundles []string) (*policy, error) {
	p := &policy{rules: map[string]rule{}}
	for _, bundle := range bundles {
		out, err := run(opa, "inspect", "--annotations", "--format", "json", bundle)
		if err != nil {
			return nil, err
		}
		var found struct {
			Manifest struct {
				Revision string `json:"revision"`
			} `json:"manifest"`
			Capabilities struct {
				Builtins []struct {
					Name             string `json:"name"`
					Nondeterministic bool   `json:"nondeterministic"`
				} `json:"builtins"`
			} `json:"capabilities"`
			Annotations []struct {
				Path []struct {
					Value string `json:"value"`
				} `json:"path"`
				Annotations struct {
					Entrypoint bool `json:"entrypoint"`
					Custom     struct {
						Backstage *rule `json:"backstage"`
					} `json:"custom"`
				} `json:"annotations"`
			} `json:"annotations"`
		}
		if err := json.Unmarshal(out, &found); err != nil {
			return nil, err
		}
		if found.Manifest.Revision != "" {
			p.revisions = append(p.revisions, found.Manifest.Revision)
		}
		for _, builtin := range found.Capabilities.Builtins {
			if builtin.Nondeterministic {
				p.changing = append(p.changing, builtin.Name)
			}
		}
		for _, a := range found.Annotations {
			var path []string
			for _, step := range a.Path {
				path = append(path, step.Value)
			}
			if a.Annotations.Entrypoint && len(path) > 1 {
				p.entrypoints = append(p.entrypoints, strings.Join(path[1:], "/"))
			}
			if a.Annotations.Custom.Backstage != nil {
				p.rules[strings.Join(path, ".")] = *a.Annotations.Custom.Backstage
			}
		}
	}
	return p, nil
}

// mocks answer for the permission rules. Where there is no answer, a function has two
// values, which ends the evaluation.
const mocks = `package stagedoor_certificate

import rego.v1

_holds(function, resource, params) if {
	_answer(function, resource, params) == true
}

_answer(function, resource, params) := holds if {
	resource == "any resource"
	some a in data.stagedoor_certificate_answers
	a.function == function
	a.params == params
	holds := a.holds
} else := _unanswered(function, resource)

_unanswered(_, _) := 1

_unanswered(_, _) := 2
`

// evaluation is what stock evaluation says of the branches of a certificate.
type evaluation struct {
	outcomes []json.RawMessage
	err      error
}

// evaluateEach evaluates certificates all at once, since opa reads the policy for each
// call. One that stops the evaluation stops all, so it is looked for by halves.
func evaluateEach(opa string, bundles []string, certificates []certificate, rules map[string]rule) []evaluation {
	outcomes, err := evaluate(opa, bundles, certificates, rules)
	if err != nil && len(certificates) > 1 {
		half := len(certificates) / 2
		return append(evaluateEach(opa, bundles, certificates[:half], rules),
			evaluateEach(opa, bundles, certificates[half:], rules)...)
	}
	all := make([]evaluation, len(certificates))
	for i := range all {
		if all[i].err = err; err == nil {
			all[i].outcomes = outcomes[i]
		}
	}
	return all
}

// evaluate returns what stock evaluation says of every branch.
func evaluate(opa string, bundles []string, certificates []certificate, rules map[string]rule) ([][]json.RawMessage, error) {
	dir, err := os.MkdirTemp("", "certify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	module := bytes.NewBufferString(mocks)
	var replaced strings.Builder
	functions := make([]string, 0, len(rules))
	for function := range rules {
		functions = append(functions, function)
	}
	slices.Sort(functions)
	for i, function := range functions {
		fmt.Fprintf(module, "\nrule_%d(resource, params) if _holds(%q, resource, params)\n", i, function)
		fmt.Fprintf(&replaced, "\t\twith %s as data.stagedoor_certificate.rule_%d\n", function, i)
	}
	var entrypoints []string
	for _, c := range certificates {
		if !slices.Contains(entrypoints, c.Entrypoint) {
			entrypoints = append(entrypoints, c.Entrypoint)
			fmt.Fprintf(module, "\n_outcome(%q, sees, answers) := {\"is\": value} if {\n\tvalue := %s with input as sees\n"+
				"\t\twith data.stagedoor_certificate_answers as answers\n%s}\n", c.Entrypoint, reference(c.Entrypoint), &replaced)
		}
	}
	fmt.Fprint(module, `
_outcome("", _, _) := {}

outcomes := [[outcome(c, branch) | some branch in c.branches] | some c in data.stagedoor_certificates]

outcome(c, branch) := is if {
	is := _outcome(c.entrypoint, c.input, branch.answers)
} else := {}
`)
	data := filepath.Join(dir, "data.json")
	text, err := json.Marshal(map[string]any{"stagedoor_certificates": append([]certificate{}, certificates...)})
	if err != nil {
		return nil, err
	}
	policy := filepath.Join(dir, "certificate.rego")
	if err := errors.Join(os.WriteFile(data, text, 0o600), os.WriteFile(policy, module.Bytes(), 0o600)); err != nil {
		return nil, err
	}
	args := []string{"eval", "--strict-builtin-errors", "--format", "json", "-d", data, "-d", policy}
	for _, bundle := range bundles {
		args = append(args, "-b", bundle)
	}
	out, err := run(opa, append(args, "data.stagedoor_certificate.outcomes")...)
	if err != nil {
		return nil, err
	}
	return parse(out, len(certificates))
}

func parse(out []byte, want int) ([][]json.RawMessage, error) {
	var answer struct {
		Result []struct {
			Expressions []struct {
				Value [][]struct {
					Is json.RawMessage `json:"is"`
				} `json:"value"`
			} `json:"expressions"`
		} `json:"result"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("opa eval answers no JSON: %w", err)
	}
	if len(answer.Result) != 1 || len(answer.Result[0].Expressions) != 1 || len(answer.Result[0].Expressions[0].Value) != want {
		return nil, fmt.Errorf("opa eval answers otherwise than by %d lists: %s", want, out)
	}
	outcomes := make([][]json.RawMessage, want)
	for i, branches := range answer.Result[0].Expressions[0].Value {
		for _, o := range branches {
			outcomes[i] = append(outcomes[i], o.Is)
		}
	}
	return outcomes, nil
}

// reference is a path such as backstage/authz/allow as a reference of Rego.
func reference(path string) string {
	ref := "data"
	for step := range strings.SplitSeq(path, "/") {
		ref += fmt.Sprintf("[%q]", step)
	}
	return ref
}

func run(opa string, args ...string) ([]byte, error) {
	cmd := exec.Command(opa, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", opa, args[0], err, out, &stderr)
	}
	return out, nil
}

// value is JSON as a value.
func value(raw json.RawMessage) any {
	var v any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		panic(err) // it was read from JSON
	}
	return v
}
