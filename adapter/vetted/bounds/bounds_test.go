package bounds_test

import (
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/stagedoor/stagedoor/adapter/vetted/bounds"
)

// TestHugeNumbersAreRefused has what OPA would reckon for minutes, or with gigabytes,
// and no deadline could end; and what is as it was.
func TestHugeNumbersAreRefused(t *testing.T) {
	bounds.Guard()
	long := "1" + strings.Repeat("0", 5000)
	for expression, refused := range map[string]bool{
		`bits.lsh(1, 100000000)`:      true,
		`bits.lsh(1, 1e9)`:            true,
		`bits.lsh(1e100000000, 1)`:    true,
		`bits.and(1e100000000, 1)`:    true,
		`1e100000000 + 1`:             true,
		`1 - 1e100000000`:             true,
		`1e-100000000 * 1`:            true,
		`1e100000000 % 7`:             true,
		`round(1e100000000)`:          true,
		`abs(1e99999999999999999999)`: true,
		`sum([1, 1e100000000])`:       true,
		`product({1e4000, 2e4000})`:   true,
		`product([x | some _ in numbers.range(1, 3000); x := 7])`: false,
		`product([x | some _ in numbers.range(1, 9000); x := 7])`: true,
		`to_number("1e100000000") * 2`:                            true,
		`units.parse("1e100000000G")`:                             true,
		`units.parse_bytes("1e100000000GB")`:                      true,
		`format_int(1e100000000, 10)`:                             true,
		`sprintf("%d", [1e100000000])`:                            true,
		`count(numbers.range(1, 1000000000))`:                     true,
		`count(numbers.range_step(1, 1000000000, 2))`:             true,
		`numbers.range(1, 1e100000000)`:                           true,
		long + ` + 1`:                                             true,
		`count(numbers.range(1, 1000))`:                           false,
		`count(numbers.range(1000, 1))`:                           false,
		`count(numbers.range_step(0, 1000000000, 1000000))`:       false,
		`bits.lsh(1, 256)`:                                        false,
		`1e308 * 10`:                                              false,
		`1.5e-300 + 1`:                                            false,
		`units.parse("1.5Ei")`:                                    false,
		`units.parse("1E")`:                                       false,
		`units.parse_bytes("10EB")`:                               false,
		`sprintf("%s see e999999 for %d", ["x", 1])`:              false,
		`sprintf("%d", [12345678901234567890])`:                   false,
		`to_number("12")`:                                         false,
		`rand.intn("seed", 5) >= 0`:                               false,
	} {
		started := time.Now()
		_, err := rego.New(rego.Query("x := "+expression), rego.StrictBuiltinErrors(true)).Eval(t.Context())
		if (err != nil) != refused {
			t.Errorf("%.60s: error %v", expression, err)
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("%.60s took %v", expression, took)
		}
	}
}

// TestBoundsKeepResults compares what the bounded builtins answer with what OPA's own
// package tells of the same numbers.
func TestBoundsKeepResults(t *testing.T) {
	bounds.Guard()
	results, err := rego.New(rego.Query(`x := [1 + 2, 7 % 4, 2 * 3.5, bits.lsh(3, 4), numbers.range(1, 3), sum([1, 2]), product([2, 3]), units.parse("2K"), format_int(255, 16)]`)).Eval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ast.InterfaceToValue(results[0].Bindings["x"])
	if err != nil || got.String() != `[3, 3, 7, 48, [1, 2, 3], 3, 6, 2000, "ff"]` {
		t.Errorf("%v, %v", got, err)
	}
}
