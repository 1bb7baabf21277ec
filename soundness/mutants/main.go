// Command mutants breaks adapter/explore and adapter/criteria in many ways, and wants to
// see that the checker of certificates notices. It does the same to the data flow of
// callers, of which tests have to notice.
//
//	go run ./soundness/mutants -n 200
//	go run ./soundness/mutants -of anyone
//
// All mutants are compiled at once, into the test of certificates: each place that can be
// broken asks whether it is the one. Nothing is written into the source; the Go command
// takes the changed files by an overlay. For each mutant the test certifies the ready
// bundles and some random policies again. Where a decision then means something else than
// it did, tools/certify must refuse its certificate.
//
// With -of anyone or alike some test must fail of each mutant. A file beside this one has
// the mutants that change nothing which anybody could see, each with the reason.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func main() {
	of := flag.String("of", certificates, "what has to notice: certificates, or the tests of anyone or alike")
	wanted := flag.Int("n", 200, "how many mutants to try")
	only := flag.String("only", "", "try the mutants of these numbers alone, with commas between")
	seed := flag.Uint64("seed", 1, "which")
	policies := flag.Int("policies", 12, "how many random policies to certify beside the ready bundles")
	timeout := flag.Duration("timeout", 2*time.Minute, "how much time of a processor a mutant may take")
	flag.Parse()
	r := &run{policies: *policies, timeout: *timeout, choose: choice{*wanted, *seed, *only}}
	err := r.all(*of)
	if r.report(*of); err != nil || r.missed > 0 {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}

// certificates is what has to notice where nothing else is named.
const certificates = "certificates"

// choice is which mutants are tried.
type choice struct {
	wanted int
	seed   uint64
	only   string // numbers with commas between
}

// of are the mutants that are tried, of so many, by their place.
func (c choice) of(all int) ([]int, error) {
	if c.only == "" {
		places := rand.New(rand.NewPCG(c.seed, 0)).Perm(all) //nolint:gosec // chance is all that is wanted
		return places[:min(c.wanted, all)], nil
	}
	var places []int
	for text := range strings.SplitSeq(c.only, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > all {
			return nil, fmt.Errorf("%s is no number from 1 to %d", text, all)
		}
		places = append(places, n-1)
	}
	return places, nil
}

// run is a run over mutants, and what came of them.
type run struct {
	policies int
	timeout  time.Duration // of a processor, since what else runs is not the mutant's fault
	dir      string        // of everything that is written
	mutants  []mutant
	original map[string]document
	anyOf    func(criteria.Rule) string
	choose   choice
	// equivalent are the mutants that nothing can notice, with why.
	equivalent map[string]string

	same, failed, caught, missed int
	answers                      int // that mean something else, over all mutants
}

// document is a certificate, as far as it is looked at here.
type document struct {
	line     string
	Policy   string          `json:"policy"`
	Input    json.RawMessage `json:"input"`
	Decision any             `json:"decision"`
}

func (r *run) all(of string) error {
	var err error
	if r.dir, err = os.MkdirTemp("", "mutants-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.dir) }()
	if of != certificates {
		t, known := targets[of]
		if !known {
			return fmt.Errorf("-of %s is none of %s, anyone and alike", of, certificates)
		}
		return r.tested(t)
	}
	return r.certified()
}

// certified breaks explore and criteria, and wants the checker of certificates to notice.
func (r *run) certified() error {
	if err := r.prepare(); err != nil {
		return err
	}
	var err error
	if r.original, err = r.certify(0, "original"); err != nil {
		return err
	}
	if out, err := r.check(r.original); err != nil {
		return fmt.Errorf("the checker refuses what is right: %w\n%s", err, out)
	}
	chosen, err := r.choose.of(len(r.mutants))
	if err != nil {
		return err
	}
	for i, at := range chosen {
		said, err := r.try(at + 1)
		if err != nil {
			return fmt.Errorf("mutant %d: %w", at+1, err)
		}
		_, _ = fmt.Fprintf(os.Stdout, "%3d  %s: %s\n", i+1, r.mutants[at], said)
	}
	return nil
}

// prepare makes the mutants and compiles them.
func (r *run) prepare() error {
	overlay, err := r.mutate("adapter/explore", "adapter/criteria")
	if err != nil {
		return err
	}
	rules, err := explore.Rules(offline.Library())
	if err != nil {
		return err
	}
	r.anyOf = func(leaf criteria.Rule) string {
		for _, rule := range rules {
			if rule.Name == leaf.Name && rule.ResourceType == leaf.ResourceType {
				return rule.AnyOf
			}
		}
		return ""
	}
	_, _ = fmt.Fprintf(os.Stdout, "%d mutants can be made; they are being compiled\n", len(r.mutants))
	for _, args := range [][]string{
		{"test", "-c", "-overlay", overlay, "-o", r.at("mutants.test"), "./soundness"},
		{"build", "-C", "tools/certify", "-o", r.at("certify"), "."},
		{"build", "-o", r.at("opa"), "github.com/open-policy-agent/opa"},
	} {
		if out, err := command(context.Background(), ".", nil, "go", args...); err != nil {
			return fmt.Errorf("go %s: %w\n%.4000s", args[0], err, out)
		}
	}
	return nil
}

func (r *run) at(name string) string { return filepath.Join(r.dir, name) }

func command(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

// mutant runs a test that was compiled with the mutants, of which one is on. It may wait for
// a processor ten times as long as it may have one.
func (r *run) mutant(number int, dir, test string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*r.timeout)
	defer cancel()
	limit := fmt.Sprintf(`ulimit -t %.0f && exec "$@"`, r.timeout.Seconds())
	out, err := command(ctx, dir, []string{"STAGEDOOR_MUTANT=" + strconv.Itoa(number)}, "sh",
		append([]string{"-c", limit, "sh", test}, args...)...)
	if err != nil && ctx.Err() != nil {
		return out, ctx.Err()
	}
	return out, err
}

// certify returns the certificates that a mutant writes, by what is asked. Where it fails
// or takes too long, there is none.
func (r *run) certify(number int, name string) (map[string]document, error) {
	into := r.at(name)
	if err := os.MkdirAll(into, 0o750); err != nil {
		return nil, err
	}
	out, err := r.mutant(number, "soundness", r.at("mutants.test"), "-test.run", "^TestCertificates$",
		"-certify-into", into, "-certified", strconv.Itoa(r.policies), "-certify-classes", "4")
	if err != nil {
		return nil, fmt.Errorf("%w\n%.2000s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(into, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, file := range files {
		lines, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text = append(text, lines...)
	}
	found := map[string]document{}
	for line := range bytes.Lines(text) {
		var d document
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		if err := decoder.Decode(&d); err != nil {
			return nil, err
		}
		d.line = string(line)
		found[strings.ReplaceAll(d.Policy, into, "")+string(d.Input)] = d
	}
	return found, nil
}

// check lets the checker look at certificates, of each policy by themselves.
func (r *run) check(documents map[string]document) (string, error) {
	texts := map[string]string{}
	for _, d := range documents {
		texts[d.Policy] += d.line
	}
	for policy, text := range texts {
		file := r.at("checked.jsonl")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		if !filepath.IsAbs(policy) {
			policy = filepath.Join("soundness", policy)
		}
		out, err := command(context.Background(), ".", nil, r.at("certify"), "-opa", r.at("opa"), file,
			r.at("original/library"), policy)
		if err != nil {
			return string(out), err
		}
	}
	return "", nil
}

// try tries one mutant and says what came of it.
func (r *run) try(number int) (string, error) {
	const name = "mutant"
	if err := os.RemoveAll(r.at(name)); err != nil {
		return "", err
	}
	found, err := r.certify(number, name)
	if err != nil {
		r.failed++
		return "fails for everybody", nil //nolint:nilerr // which is one of the outcomes
	}
	silent, changed, missed := 0, 0, []string{}
	for asked, was := range r.original {
		is, there := found[asked]
		if !there {
			silent++
			continue
		}
		differ, err := r.differ(was.Decision, is.Decision)
		if err != nil {
			return "", err
		}
		if !differ {
			continue
		}
		changed++
		if out, err := r.check(map[string]document{asked: is}); err == nil {
			missed = append(missed, is.line+out)
		}
		if changed >= mostChecked {
			break
		}
	}
	r.answers += changed
	switch {
	case len(missed) > 0:
		r.missed++
		return fmt.Sprintf("MISSED, %d of %d changed answers:\n%s", len(missed), changed, missed[0]), nil
	case changed > 0:
		r.caught++
		return fmt.Sprintf("caught, %d answers changed", changed), nil
	case silent > 0:
		r.failed++
		return fmt.Sprintf("fails, %d questions without an answer", silent), nil
	}
	r.same++
	return "answers as before", nil
}

// mostChecked bounds the changed answers of one mutant that are checked, each alone.
const mostChecked = 4

// differ is whether two decisions mean something else. It asks the criteria as they
// stand, which no mutant can change: this program was not compiled with them.
func (r *run) differ(a, b any) (bool, error) {
	space := criteria.NewSpace()
	var functions [2]criteria.Function
	for i, value := range []any{a, b} {
		d, _, err := wire.ParseDecision(value)
		if err != nil {
			return true, nil //nolint:nilerr // a decision that nobody can read is another one
		}
		switch d.Result {
		case wire.Allow:
			functions[i] = criteria.Granted
		case wire.Conditional:
			if functions[i], err = space.Read(d.Conditions, r.anyOf); err != nil {
				return false, err
			}
		}
	}
	same, err := space.Equal(functions[0], functions[1])
	if errors.Is(err, criteria.ErrTooLarge) {
		return false, err
	}
	return !same, err
}

func (r *run) report(of string) {
	if of != certificates {
		const said = "%d mutants: %d noticed, %d missed, %d change nothing that could be noticed\n"
		_, _ = fmt.Fprintf(os.Stdout, said, r.caught+r.missed+r.same, r.caught, r.missed, r.same)
		return
	}
	const said = "%d mutants answer as before, %d fail without an answer, %d change an answer: " +
		"%d caught, %d missed (%d changed answers checked, each alone)\n"
	_, _ = fmt.Fprintf(os.Stdout, said, r.same, r.failed, r.caught+r.missed, r.caught, r.missed, r.answers)
}
