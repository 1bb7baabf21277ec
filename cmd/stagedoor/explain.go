package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/certificate"
	"github.com/stagedoor/stagedoor/adapter/explain"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

func newExplain() *cobra.Command {
	var a asked
	var opening offline.Options
	var format string
	var certify bool
	cmd := &cobra.Command{
		Use:   "explain PATH",
		Short: "Why a policy decides so, and the smallest change that would turn it",
		Long: "Explain tells which of the author's rules held, which did not and which depend on the resource, " +
			"which of them\n" +
			"decided, and from which rule each part of a condition comes. It ends with the smallest change that would turn\n" +
			"the answer, which it has decided before. It asks as eval does.\n" +
			"With --certificate it writes the decision with all its branches in place of that, as JSON, for tools/certify to\n" +
			"check by stock OPA.",
		Example: "  stagedoor explain policy --user user:default/ann --permission catalog.entity.delete --resource shop.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			if certify {
				if a.resource != "" || cmd.Flags().Changed("format") {
					return errors.New("--certificate is JSON, and about every resource: leave out --resource and --format")
				}
				return certifyAll(cmd.Context(), cmd.OutOrStdout(), args[0], opening, questions)
			}
			return explainAll(cmd.Context(), cmd.OutOrStdout(), args[0], opening, format, questions, known)
		},
	}
	a.flags(cmd)
	openingFlags(cmd, &opening)
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().BoolVar(&certify, "certificate", false, "write the decision with its branches, to be checked by stock OPA")
	return cmd
}

// certifyAll writes the certificates of the questions, each on a line.
func certifyAll(ctx context.Context, w io.Writer, path string, opening offline.Options,
	questions []offline.Question) (err error) {
	p, err := offline.Open(ctx, path, opening)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	certifier, err := certificate.New(p)
	if err != nil {
		return err
	}
	for _, q := range questions {
		c, err := certifier.Certify(ctx, q)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(w).Encode(c); err != nil {
			return err
		}
	}
	return nil
}

func explainAll(
	ctx context.Context, w io.Writer, path string, opening offline.Options, format string, questions []offline.Question,
	known *inventory.Inventory,
) (err error) {
	p, err := offline.Open(ctx, path, opening)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	failed := false
	for _, q := range questions {
		e, err := explain.Explain(ctx, p, q, known)
		if err != nil {
			return err
		}
		failed = failed || e.Error != ""
		text := []byte(e.Text())
		if format == "json" {
			if text, err = json.Marshal(e); err != nil {
				return err
			}
			text = append(text, '\n')
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if failed {
		return errFindings
	}
	return nil
}
