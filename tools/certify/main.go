// Command certify checks certificates of `stagedoor explain --certificate` by stock OPA.
//
//	certify [-opa opa] [-entrypoint path] CERTIFICATES POLICY…
//
// CERTIFICATES are JSON, one after the other. POLICY are the bundles that `opa eval -b`
// reads: the policy, and `stagedoor rules export DIR`. It confirms four things.
//
//   - The certificate is of the rule that METADATA or -entrypoint names, and of the revision
//     that a manifest names. No time, chance or network is asked anywhere in the policy.
//   - The branches cover everything: they are the leaves of one tree of answers.
//   - Stock evaluation gives the outcome of each branch (eval.go). Permission rules answer
//     as the branch says. A rule about which it says nothing stops the evaluation, so what
//     is evaluated depends on nothing else.
//   - The decision is what the branches say (agree.go), for every way in which the
//     permission rules can be answered.
//
// It imports nothing of stagedoor. What it believes is `opa eval` and the METADATA of
// permission rules, which `opa inspect` reads.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

type certificate struct {
	Revision   string         `json:"revision"`
	Entrypoint string         `json:"entrypoint"`
	Input      map[string]any `json:"input"`
	Decision   any            `json:"decision"`
	Branches   []branch       `json:"branches"`
	// Supposed are the branches where a resource is supposed, of a permission about none.
	Supposed []branch `json:"supposed,omitempty"`
}

type branch struct {
	Answers []answer `json:"answers"`
	// Outcome is not there where the entrypoint is undefined.
	Outcome json.RawMessage `json:"outcome,omitempty"`
}

type answer struct {
	Function string `json:"function"`
	Params   any    `json:"params"`
	Holds    bool   `json:"holds"`
}

// asks is the same for two answers to one question.
func (a answer) asks() string { return a.Function + " " + text(a.Params) }

func main() {
	opa := flag.String("opa", "opa", "the stock opa")
	entrypoint := flag.String("entrypoint", "", "the path of the rule that decides, where it is not the annotated one")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: certify [-opa opa] [-entrypoint path] CERTIFICATES POLICY…")
		os.Exit(2)
	}
	refused, err := check(*opa, *entrypoint, flag.Arg(0), flag.Args()[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if refused {
		os.Exit(1)
	}
}

func check(opa, entrypoint, file string, policies []string) (refused bool, err error) {
	certificates, err := read(file)
	if err != nil {
		return false, err
	}
	of, err := inspect(opa, policies)
	if err != nil {
		return false, err
	}
	if entrypoint != "" {
		of.entrypoints = []string{entrypoint}
	}
	rules := of.rules
	if _, err := evaluate(opa, policies, nil, rules); err != nil {
		return false, err
	}
	branches := 0
	var entrypoints []string
	var evaluated []certificate // each with its branches, and after that with those that are supposed
	for _, c := range certificates {
		evaluated = append(evaluated, c, c.supposing())
	}
	answers := evaluateEach(opa, policies, evaluated, rules)
	for i, c := range certificates {
		branches += len(c.Branches) + len(c.Supposed)
		entrypoints = append(entrypoints, c.Entrypoint)
		err := errors.Join(of.made(c), c.holds(answers[2*i]), evaluated[2*i+1].holds(answers[2*i+1]))
		if err == nil {
			err = c.agree(rules)
		}
		if err != nil {
			refused = true
			fmt.Printf("%d: %s: refused: %v\n", i, text(c.Input), err)
		}
	}
	if !refused {
		fmt.Printf("%d decisions of %d branches confirmed, of %s\n", len(certificates), branches,
			strings.Join(slices.Compact(slices.Sorted(slices.Values(entrypoints))), ", "))
		if len(of.revisions) == 0 {
			fmt.Println("no manifest names a revision, so that of the certificates is not checked")
		}
	}
	return refused, nil
}

// made returns why a certificate is not one of the policy. Where no manifest names a
// revision, the certificate's is not held to anything: what counts is what is evaluated.
func (p *policy) made(c certificate) error {
	switch {
	case len(p.changing) > 0:
		return fmt.Errorf("the policy can answer otherwise at another time: it calls %s", strings.Join(p.changing, ", "))
	case len(p.entrypoints) > 0 && !slices.Contains(p.entrypoints, c.Entrypoint):
		return fmt.Errorf("it is of %s, and the policy decides by %s", c.Entrypoint, strings.Join(p.entrypoints, ", "))
	case len(p.revisions) > 0 && !slices.Contains(p.revisions, c.Revision):
		return fmt.Errorf("it is of revision %s, and the policy is %s", c.Revision, strings.Join(p.revisions, ", "))
	}
	return nil
}

// supposing is the certificate with a resource in the input, and the branches of that.
func (c certificate) supposing() certificate {
	of := certificate{Entrypoint: c.Entrypoint, Input: maps.Clone(c.Input), Branches: append([]branch{}, c.Supposed...)}
	if of.Input == nil {
		of.Input = map[string]any{}
	}
	of.Input["resource"] = anyResource
	return of
}

// anyResource is what stands for the resource in the input.
const anyResource = "any resource"

// holds returns why branches are wrong, given what stock evaluation says of them.
func (c certificate) holds(stock evaluation) error {
	if stock.err != nil {
		return stock.err
	}
	if len(c.Branches) == 0 {
		return nil
	}
	if err := cover(c.Branches, 0); err != nil {
		return err
	}
	outcomes := stock.outcomes
	if len(outcomes) != len(c.Branches) {
		return errors.New("stock evaluation says nothing of some branches")
	}
	for i, b := range c.Branches {
		if got, want := canonical(outcomes[i]), canonical(b.Outcome); got != want {
			return fmt.Errorf("branch %d: stock evaluation says %q, not %q", i, got, want)
		}
	}
	return nil
}

// cover returns why branches that share their first answers are not the leaves of a tree.
func cover(branches []branch, shared int) error {
	if len(branches) == 1 && len(branches[0].Answers) == shared {
		return nil
	}
	sides := map[bool][]branch{}
	for _, b := range branches {
		if len(b.Answers) <= shared {
			return errors.New("a branch is within another one")
		}
		a := b.Answers[shared]
		if a.asks() != branches[0].Answers[shared].asks() {
			return fmt.Errorf("no branch answers %s otherwise", a.asks())
		}
		sides[a.Holds] = append(sides[a.Holds], b)
	}
	if len(sides) < 2 {
		return errors.New("there is an answer without a branch")
	}
	return errors.Join(cover(sides[true], shared+1), cover(sides[false], shared+1))
}

func read(file string) ([]certificate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []certificate
	decoder := json.NewDecoder(f)
	for {
		var text json.RawMessage
		err := decoder.Decode(&text)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		var c certificate
		if err == nil {
			c, err = parsed(text)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: certificate %d: %w", file, len(all)+1, err)
		case len(c.Branches) == 0:
			return nil, fmt.Errorf("%s: certificate %d has no branches", file, len(all)+1)
		}
		all = append(all, c)
	}
}

func parsed(text []byte) (c certificate, err error) {
	names := json.NewDecoder(bytes.NewReader(text))
	if err := unambiguous(names); err != nil {
		return c, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&c)
	return c, err
}

// unambiguous reads a value, and returns which member stands twice in an object of it. Of
// two members readers take one or the other, and some take no notice of the case.
func unambiguous(d *json.Decoder) error {
	t, err := d.Token()
	open, nested := t.(json.Delim)
	if err != nil || !nested {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			lower := strings.ToLower(name.(string))
			if seen[lower] {
				return fmt.Errorf("%s is there twice", name)
			}
			seen[lower] = true
		}
		if err := unambiguous(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// text is a value as JSON, with members in order.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was read from JSON
	}
	return string(b)
}

// canonical is JSON with members in order, and empty for nothing.
func canonical(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	return text(value(raw))
}
