package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

func newEval() *cobra.Command {
	var a asked
	var opening offline.Options
	var against, format string
	cmd := &cobra.Command{
		Use:   "eval PATH",
		Short: "One decision of a policy",
		Long: "Eval gives the decision of a policy as it would serve: for --user, --claims and --permission, or for a\n" +
			"request, an input or a decision-log event on standard input. With --resource it also says what the decision\n" +
			"means for that resource. With --against it asks a running stagedoor at its admin address in place of a PATH.",
		Example: "  stagedoor eval policy --user user:default/ann --claims user:default/ann,group:default/web \\\n" +
			"    --permission catalog.entity.delete --resource shop.yaml",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (against != "") {
				return errors.New("want a PATH, or --against URL of a running stagedoor")
			}
			if format != "text" && format != "json" {
				return fmt.Errorf("--format is text or json, not %s", format)
			}
			known, err := loadInventory(a.inventory)
			if err != nil {
				return err
			}
			questions, err := a.questions(cmd.InOrStdin(), known)
			if err != nil {
				return err
			}
			var answers []answered
			if against != "" {
				answers, err = askServer(cmd.Context(), against, questions)
			} else {
				answers, err = askPolicy(cmd.Context(), args[0], opening, questions)
			}
			if err != nil {
				return err
			}
			for i := range answers {
				answers[i].Inventory = known.Source
			}
			return printAnswers(cmd.OutOrStdout(), format, answers)
		},
	}
	a.flags(cmd)
	openingFlags(cmd, &opening)
	cmd.Flags().StringVar(&against, "against", "", "the `URL` of the admin address of a running stagedoor to ask")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// answered is one decision, as eval tells it.
type answered struct {
	Policy     string         `json:"policy"`
	Revision   string         `json:"revision,omitempty"`
	Entrypoint string         `json:"entrypoint,omitempty"`
	Inventory  string         `json:"inventory"`
	Input      map[string]any `json:"input"`
	Decision   *wire.Decision `json:"decision,omitempty"`
	InWords    string         `json:"inWords,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	// Applied is what the decision means for the resource that was given.
	Applied string `json:"applied,omitempty"`
	// Excluded are the branches of the policy that failed, and are no part of it.
	Excluded []string `json:"excluded,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// askPolicy decides by the policy at a path.
func askPolicy(
	ctx context.Context, path string, opening offline.Options, questions []offline.Question,
) (_ []answered, err error) {
	p, err := offline.Open(ctx, path, opening)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	answers := make([]answered, len(questions))
	for i, q := range questions {
		outcome, err := p.Decide(ctx, q.Caller, q.Permission)
		if err != nil {
			return nil, err
		}
		a := answered{
			Policy: path, Revision: p.Revision(), Entrypoint: p.Entrypoint(), Input: q.Input(), Reason: outcome.Reason,
		}
		for _, excluded := range outcome.Excluded {
			a.Excluded = append(a.Excluded, excluded.Error())
		}
		if outcome.Err != nil {
			a.Error = outcome.Err.Error()
		} else {
			a.decided(outcome.Decision, p.Vocabulary(), q)
			a.apply(ctx, p, q)
		}
		answers[i] = a
	}
	return answers, nil
}

func (a *answered) decided(d wire.Decision, vocabulary words.Vocabulary, q offline.Question) {
	a.Decision = &d
	if d.Result == wire.Conditional {
		a.InWords = vocabulary.Condition(d.Conditions, q.Words())
	}
}

// apply says what the decision means for the resource of the question.
func (a *answered) apply(ctx context.Context, p *offline.Policy, q offline.Question) {
	if q.Resource == nil {
		return
	}
	allowed, err := p.Applies(ctx, *a.Decision, q.Resource)
	switch {
	case err != nil:
		a.Error = err.Error()
	case allowed:
		a.Applied = wire.Allow.String()
	default:
		a.Applied = wire.Deny.String()
	}
}

// maxAnswer is how long an answer of a running stagedoor may be.
const maxAnswer = 32 << 20

// askServer asks a running stagedoor at its admin address, in the form of OPA's data API.
func askServer(ctx context.Context, url string, questions []offline.Question) ([]answered, error) {
	url = strings.TrimRight(url, "/")
	var status struct{ Revision, Entrypoint string }
	if err := call(ctx, http.MethodGet, url+"/status", nil, &status); err != nil {
		return nil, err
	}
	if status.Entrypoint == "" {
		return nil, fmt.Errorf("%s/status names no entrypoint: want the admin address of a stagedoor that serves", url)
	}
	answers := make([]answered, len(questions))
	for i, q := range questions {
		if q.Resource != nil {
			return nil, errors.New("--resource needs the PATH of a policy: a running stagedoor never sees a resource")
		}
		a := answered{Policy: url, Revision: status.Revision, Entrypoint: status.Entrypoint, Input: q.Input()}
		var answer struct{ Result any }
		place, question := url+"/v1/data/"+status.Entrypoint, map[string]any{"input": q.Input()}
		if err := call(ctx, http.MethodPost, place, question, &answer); err != nil {
			a.Error = err.Error()
		} else if d, _, err := wire.ParseDecision(answer.Result); err != nil {
			return nil, err
		} else {
			a.decided(d, offline.LibraryVocabulary(), q)
		}
		answers[i] = a
	}
	return answers, nil
}

// call makes one call of a running stagedoor.
func call(ctx context.Context, method, url string, body, into any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, url, &sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := peer.NewClient(peer.NewTransport(peer.Options{})).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, bytes.TrimSpace(text))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

func printAnswers(w io.Writer, format string, answers []answered) error {
	failed := false
	for _, a := range answers {
		failed = failed || a.Error != ""
		if format == "json" {
			text, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
				return err
			}
			continue
		}
		if _, err := io.WriteString(w, a.text()); err != nil {
			return err
		}
	}
	if failed {
		return errFindings
	}
	return nil
}

// text tells the answer to a person.
func (a answered) text() string {
	var b strings.Builder
	permission, _ := a.Input["permission"].(map[string]any)
	who := "nobody who is signed in"
	if identity, ok := a.Input["identity"].(map[string]any); ok {
		who = fmt.Sprint(identity["user"])
	}
	result := "ERROR"
	if a.Decision != nil {
		result = a.Decision.Result.String()
	}
	fmt.Fprintf(&b, "%s %s for %s\n", result, permission["name"], who)
	for _, line := range []struct{ before, text string }{
		{"", a.InWords}, {"because ", a.Reason}, {"this resource: ", a.Applied}, {"", a.Error},
	} {
		if line.text != "" {
			fmt.Fprintf(&b, "  %s%s\n", line.before, line.text)
		}
	}
	for _, excluded := range a.Excluded {
		fmt.Fprintf(&b, "  a branch failed and is no part of the answer: %s\n", excluded)
	}
	return b.String()
}
