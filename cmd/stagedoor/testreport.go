package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/tests"
)

// testRun is what the test command reports.
type testRun struct {
	Inventory string         `json:"inventory"`
	Policies  []testedPolicy `json:"policies"`

	verbose   bool
	threshold float64
}

type testedPolicy struct {
	Path       string `json:"path"`
	Revision   string `json:"revision,omitempty"`
	Entrypoint string `json:"entrypoint,omitempty"`
	// Refused says why the policy, or its tests, must not be loaded.
	Refused string `json:"refused,omitempty"`
	tests.Report
}

func (r testRun) passed() bool {
	for _, p := range r.Policies {
		if p.Refused != "" || r.tooLittle(p) {
			return false
		}
		for _, t := range p.Tests {
			if !t.Passed() {
				return false
			}
		}
	}
	return true
}

// tooLittle is whether the coverage is below the threshold.
func (r testRun) tooLittle(p testedPolicy) bool {
	return r.threshold > 0 && p.Coverage != nil && p.Coverage.Coverage < r.threshold
}

// counted are the numbers of tests by how they ended, and of evaluations.
type counted struct{ pass, fail, skip, twice, once int }

func (p testedPolicy) count() (c counted) {
	for _, t := range p.Tests {
		switch t.Status {
		case tests.Pass:
			c.pass++
		case tests.Skip:
			c.skip++
		default:
			c.fail++
		}
		c.twice += t.Twice
		c.once += t.Once
	}
	return c
}

// pretty tells a person: findings one a line, then a line for each policy.
func (r testRun) pretty() ([]byte, error) {
	var b bytes.Buffer
	for _, p := range r.Policies {
		if p.Refused != "" {
			fmt.Fprintf(&b, "%s: must not serve\n%s\n", p.Path, p.Refused)
			continue
		}
		for _, t := range p.Tests {
			if r.verbose || !t.Passed() || t.Note != "" {
				fmt.Fprintf(&b, "%s.%s: %s (%s)\n",
					t.Package, t.Name, strings.ToUpper(string(t.Status)), t.Duration.Round(time.Microsecond))
			}
			for _, f := range t.Findings {
				fmt.Fprintf(&b, "  %s:%d:%d: error: %s [%s]\n", f.File, f.Line, f.Column, f.Text, f.Code)
			}
			if t.Note != "" {
				fmt.Fprintf(&b, "  %s\n", t.Note)
			}
			if t.Output != "" && (r.verbose || !t.Passed()) {
				fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(strings.TrimRight(t.Output, "\n"), "\n", "\n  "))
			}
		}
		c := p.count()
		fmt.Fprintf(&b, "%s: %s\n", p.Path, c.summary())
		fmt.Fprintf(&b, "  policy %s, entrypoint %s, inventory %s\n", p.Revision, p.Entrypoint, r.Inventory)
		if p.Coverage != nil {
			fmt.Fprintf(&b, "  coverage %.1f %%", p.Coverage.Coverage)
			if r.tooLittle(p) {
				fmt.Fprintf(&b, ", below the threshold of %g %%", r.threshold)
			}
			b.WriteString("\n")
		}
	}
	return b.Bytes(), nil
}

func (c counted) summary() string {
	text := fmt.Sprintf("%d of %d tests passed", c.pass, c.pass+c.fail)
	if c.skip > 0 {
		text += fmt.Sprintf(", %d skipped", c.skip)
	}
	text += fmt.Sprintf(", %d questions decided twice", c.twice)
	if c.once > 0 {
		text += fmt.Sprintf(", %d once", c.once)
	}
	return text
}

func (r testRun) json() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// github writes annotations for the files of a pull request.
func (r testRun) github() ([]byte, error) {
	var b bytes.Buffer
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, p := range r.Policies {
		if p.Refused != "" {
			fmt.Fprintf(&b, "::error title=%s::%s\n", property.Replace(p.Path), escape.Replace(p.Refused))
		}
		for _, t := range p.Tests {
			for _, f := range t.Findings {
				fmt.Fprintf(&b, "::error file=%s,line=%d,col=%d,title=%s::%s\n", property.Replace(f.File), f.Line, f.Column,
					property.Replace(t.Package+"."+t.Name+" ["+f.Code+"]"), escape.Replace(f.Text))
			}
		}
		if r.tooLittle(p) {
			fmt.Fprintf(&b, "::error title=%s::coverage %.1f %%25, below the threshold of %g %%25\n",
				property.Replace(p.Path), p.Coverage.Coverage, r.threshold)
		}
	}
	return b.Bytes(), nil
}

// junitSuites is what `--format junit` writes, by the schema that Jenkins has for it. Where
// a test is stands in the text of its failures: the schema has no attribute for it.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr,omitempty"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string         `xml:"name,attr"`
	Class     string         `xml:"classname,attr"`
	Time      string         `xml:"time,attr"`
	Skipped   *struct{}      `xml:"skipped"`
	Errors    []junitFailure `xml:"error"`
	Failures  []junitFailure `xml:"failure"`
	SystemOut string         `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

func (r testRun) junit() ([]byte, error) {
	all := junitSuites{Name: "stagedoor test"}
	var total time.Duration
	for _, p := range r.Policies {
		s := junitSuite{Name: p.Path}
		var spent time.Duration
		if p.Refused != "" {
			s.add(junitCase{Name: "loads", Class: p.Path, Time: seconds(0),
				Errors: []junitFailure{{Message: "must not serve", Type: "refused", Text: p.Refused}}})
		}
		for _, t := range p.Tests {
			c := junitCase{
				Name: t.Name, Class: t.Package, Time: seconds(t.Duration),
				SystemOut: t.Note + t.Output,
			}
			spent += t.Duration
			if t.Status == tests.Skip {
				c.Skipped = &struct{}{}
			}
			for _, f := range t.Findings {
				told := junitFailure{
					Message: f.Text, Type: f.Code, Text: fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text),
				}
				if t.Status == tests.Error {
					c.Errors = append(c.Errors, told)
				} else {
					c.Failures = append(c.Failures, told)
				}
			}
			s.add(c)
		}
		if r.tooLittle(p) {
			message := fmt.Sprintf("coverage %.1f %%, below the threshold of %g %%", p.Coverage.Coverage, r.threshold)
			s.add(junitCase{
				Name: "coverage", Class: p.Path, Time: seconds(0),
				Failures: []junitFailure{{Message: message, Type: "coverage"}},
			})
		}
		s.Time = seconds(spent)
		total += spent
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Suites = append(all.Suites, s)
	}
	all.Time = seconds(total)
	text, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(text, '\n')...), err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Skipped != nil:
		s.Skipped++
	case len(c.Errors) > 0:
		s.Errors++
	case len(c.Failures) > 0:
		s.Failures++
	}
	s.Cases = append(s.Cases, c)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }
