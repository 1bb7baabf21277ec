package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/matrix"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/provenance"
	"github.com/stagedoor/stagedoor/adapter/tables"
)

var matrixFormats = []string{"text", "csv", "markdown", "json", "html"}

type asMatrix struct {
	inventory, format, who, on string
	opening                    offline.Options
}

func newMatrix() *cobra.Command {
	var m asMatrix
	cmd := &cobra.Command{
		Use:   "matrix PATH",
		Short: "Who may do what by a policy",
		Long: "Matrix decides every permission of the inventory for every class of callers: " +
			"ALLOW, DENY, or a condition in\n" +
			"words. What is equal is told once, and a mark shows the permissions that no rule names. With --who it answers\n" +
			"the question the other way round: who can do this, and by which rule.",
		Example: "  stagedoor matrix policy --format html > who.html\n" +
			"  stagedoor matrix policy --who catalog.entity.delete --on shop.yaml",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if !slices.Contains(matrixFormats, m.format) {
				return fmt.Errorf("--format is one of %s, not %s", strings.Join(matrixFormats, ", "), m.format)
			}
			if m.who == "" && m.on != "" {
				return errors.New("--on is the resource of a --who, which is missing")
			}
			if m.who != "" && m.format != "text" && m.format != "json" {
				return fmt.Errorf("--who answers as text or json, not %s", m.format)
			}
			p, err := offline.Open(cmd.Context(), args[0], m.opening)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.Close(cmd.Context())) }()
			text, err := m.run(cmd.Context(), p)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.inventory, "inventory", "", "the `directory` that says which permissions and people there are")
	openingFlags(cmd, &m.opening)
	f.StringVar(&m.format, "format", "text", strings.Join(matrixFormats, ", "))
	f.StringVar(&m.who, "who", "", "the `permission` to ask about: who has it, and by which rule")
	f.StringVar(&m.on, "on", "", "a `file` with the resource of --who, in YAML or JSON")
	return cmd
}

func (m asMatrix) run(ctx context.Context, p *offline.Policy) (string, error) {
	inv, err := loadInventory(m.inventory)
	if err != nil {
		return "", err
	}
	var resource any
	if m.on != "" {
		if resource, err = offline.ReadResource(m.on); err != nil {
			return "", fmt.Errorf("--on: %w", err)
		}
	}
	known, err := tables.Callers(p)
	if err != nil {
		return "", err
	}
	who, err := audience.Of(ctx, audience.Sources{Inventory: inv, Resource: resource, Known: known}, p)
	if err != nil {
		return "", err
	}
	o := matrix.Options{
		Inventory: inv, Who: who, Vocabulary: p.Vocabulary(),
		Progress: newProgress(os.Stderr, "deciding").tell,
	}
	absent, err := p.Absent()
	if err != nil {
		return "", err
	}
	if m.who != "" {
		return m.whoMay(ctx, p, resource, o, absent)
	}
	named, err := matrix.NamesOf(ctx, p)
	if err != nil {
		return "", err
	}
	of, err := matrix.Of(ctx, p, named, o)
	if err != nil {
		return "", err
	}
	of.About.Policy = describePolicy(p, absent)
	switch m.format {
	case "csv":
		return of.CSV(), nil
	case "markdown":
		return of.Markdown(), nil
	case "html":
		return of.HTML()
	case "json":
		return asJSON(struct {
			Cells []matrix.Cell `json:"cells"`
			About matrix.About  `json:"about"`
		}{of.Cells(), of.About})
	}
	return of.Text(), nil
}

func (m asMatrix) whoMay(ctx context.Context, p *offline.Policy, resource any, o matrix.Options,
	absent []string) (string, error) {
	permission, err := readPermission(m.who, o.Inventory)
	if err != nil {
		return "", fmt.Errorf("--who: %w", err)
	}
	by, err := provenance.NewTracer(p)
	if err != nil {
		return "", err
	}
	found, err := matrix.WhoMay(ctx, p, permission, resource, matrix.WhoOptions{
		Options: o, Comparer: comparison.NewComparer(p), By: by,
	})
	if err != nil {
		return "", err
	}
	var every *anyone.Who
	if resource == nil {
		if every, err = anyone.WhoMay(ctx, p, permission); err != nil {
			return "", err
		}
	}
	about := matrix.About{Policy: describePolicy(p, absent), Inventory: o.Inventory.Source, Callers: o.Who.Of}
	if m.format == "json" {
		return asJSON(struct {
			Permission string       `json:"permission"`
			Every      *anyone.Who  `json:"every,omitempty"`
			Who        []matrix.May `json:"who"`
			About      matrix.About `json:"about"`
		}{permission.Name, every, found, about})
	}
	text := matrix.WhoText(found) + "\n" + about.String() + "\n"
	if every != nil {
		text = every.Text() + "\n" + text
	}
	return text, nil
}

// asJSON writes a document for people and programs to read.
func asJSON(v any) (string, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return string(b) + "\n", err
}
