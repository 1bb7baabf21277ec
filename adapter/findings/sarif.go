package findings

import (
	"encoding/json"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
)

// Codes says of each code what its findings are about. It returns a copy.
func Codes() map[string]string { return maps.Clone(codes) }

var codes = map[string]string{
	"action":          "An action that no permission has",
	"actor":           "An actor that no plugin is",
	"always":          "A condition that always holds",
	"answer":          "An answer in a shape that is none",
	"bundle":          "A bundle that must not serve",
	"claims":          "The user where the claims were meant",
	"compile":         "What OPA's compiler refuses",
	"data":            "Data that no file has",
	"dead":            "A rule that never holds",
	"decision-table":  "A decision table that cannot be read",
	"default":         "A default that allows",
	"each":            "A not that holds for one where each was meant",
	"empty":           "A list that may be empty where an empty list means everything",
	"entrypoint":      "No rule that decides, or several",
	"everybody":       "What everybody has though no rule names it",
	"fails":           "Questions for which the policy fails",
	"guard":           "A rule about a resource that is asked for other permissions",
	"ignore":          "A comment that silences nothing, or without a reason",
	"implied":         "A rule that changes no answer",
	"input":           "A member of the input that no request has",
	"never":           "A condition that never holds",
	"params":          "Params that the rule's schema refuses",
	"permission":      "A permission that nobody publishes",
	"permission-type": "A type that no permission has",
	"plugin":          "A plugin that publishes nothing",
	"reference":       "A reference in a form that Backstage never writes",
	"resource":        "A use of the resource outside of permission rules",
	"resource-type":   "A resource type that no permission is about",
	"roots":           "What lies outside of the bundle's roots",
	"rule":            "A rule that no plugin publishes",
	"schema":          "Data that the schema beside it refuses",
	"syntax":          "What OPA's parser refuses",
	"type":            "Values of types that never meet",
	"undefined":       "A not over what can be undefined",
	"voided":          "A permission that voids the conditions of another",
}

// WriteSARIF writes findings as one SARIF 2.1.0 log.
func WriteSARIF(w io.Writer, all []Finding) error {
	type text struct {
		Text string `json:"text"`
	}
	type rule struct {
		ID               string `json:"id"`
		ShortDescription text   `json:"shortDescription"`
	}
	type region struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	type physical struct {
		ArtifactLocation struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *region `json:"region,omitempty"`
	}
	type location struct {
		PhysicalLocation physical `json:"physicalLocation"`
	}
	type sarifResult struct {
		RuleID    string     `json:"ruleId"`
		Level     string     `json:"level"`
		Message   text       `json:"message"`
		Locations []location `json:"locations"`
	}
	type driver struct {
		Name           string `json:"name"`
		InformationURI string `json:"informationUri"`
		Rules          []rule `json:"rules"`
	}
	results := []sarifResult{}
	for _, f := range all {
		var at location
		at.PhysicalLocation.ArtifactLocation.URI = (&url.URL{Path: filepath.ToSlash(f.File)}).String()
		if f.Line > 0 {
			at.PhysicalLocation.Region = &region{f.Line, max(f.Column, 1)}
		}
		results = append(results, sarifResult{f.Code, string(f.Severity), text{f.Text}, []location{at}})
	}
	rules := []rule{}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		rules = append(rules, rule{code, text{codes[code]}})
	}
	type tool struct {
		Driver driver `json:"driver"`
	}
	type run struct {
		Tool       tool          `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []run  `json:"runs"`
	}{
		"https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", "2.1.0",
		[]run{{tool{driver{"stagedoor", "https://github.com/stagedoor/stagedoor", rules}}, "unicodeCodePoints", results}},
	})
}
