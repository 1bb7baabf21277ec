// Package bounds lets builtins refuse, before they begin, what would take them very long
// or very much memory.
//
// OPA asks between builtins whether an evaluation is to end, but cannot cancel one that
// reckons: no deadline could end it. So [Guard] puts checks before those that reckon with
// numbers of any size, and before those that make lists as long as a number says. A policy
// that asks for more gets an error of the builtin; any other gets the same as without.
package bounds

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

const (
	// maxDigits is how many digits a number may have that is reckoned with. The largest
	// that JavaScript knows has 309.
	maxDigits = 4096
	// maxShift is by how many bits a number may be shifted.
	maxShift = 1 << 14
	// maxRange is how many numbers a range may have.
	maxRange = 1_000_000
	// maxAddresses is how many addresses a range of them may be expanded to.
	maxAddresses = 1 << 16
)

// Guard lets those builtins refuse what would take them very long, or very much memory,
// before they begin: OPA cannot cancel them, so no deadline could. OPA's registry of
// builtins is global to the process, and so is this; it is done once.
func Guard() { guard() }

var guard = sync.OnceFunc(func() {
	for _, b := range []*ast.Builtin{
		ast.Plus, ast.Minus, ast.Multiply, ast.Divide, ast.Rem, ast.Abs, ast.Round, ast.Ceil, ast.Floor,
		ast.Sum, ast.Product, ast.BitsOr, ast.BitsAnd, ast.BitsNegate, ast.BitsXOr, ast.BitsShiftLeft, ast.BitsShiftRight,
		ast.FormatInt, ast.ToNumber, ast.UnitsParse, ast.UnitsParseBytes, ast.RandIntn, ast.NumbersRange,
		ast.NumbersRangeStep, ast.Sprintf,
	} {
		bounded(b.Name, func(operands []*ast.Term) error {
			for i, operand := range operands {
				if err := checkDigits(operand.Value, i+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	bounded(ast.BitsShiftLeft.Name, func(operands []*ast.Term) error {
		if n, ok := operands[1].Value.(ast.Number); ok {
			if by, exact := n.Int64(); !exact || by > maxShift {
				return builtins.NewOperandErr(2, "must be no more than %d", maxShift)
			}
		}
		return nil
	})
	bounded(ast.Product.Name, checkProduct)
	bounded(ast.NumbersRange.Name, checkRange)
	bounded(ast.NumbersRangeStep.Name, checkRange)
	bounded(ast.NetCIDRExpand.Name, checkExpand)
})

// bounded puts a check before a builtin.
func bounded(name string, check func([]*ast.Term) error) {
	f, arity := topdown.GetBuiltin(name), ast.BuiltinMap[name].Decl.Arity()
	topdown.RegisterBuiltinFunc(name, func(
		bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error,
	) error {
		if err := check(operands[:arity]); err != nil { // what follows is where the result goes
			return err
		}
		return f(bctx, operands, iter)
	})
}

// checkDigits refuses a number, or text of one, with too many digits, also in a list
// or set.
func checkDigits(v ast.Value, at int) (err error) {
	each := func(t *ast.Term) {
		if err == nil {
			err = checkDigits(t.Value, at)
		}
	}
	switch v := v.(type) {
	case ast.Number:
		if digits(string(v)) > maxDigits {
			return builtins.NewOperandErr(at, "must have no more than %d digits", maxDigits)
		}
	case ast.String:
		// A text is reckoned with as far as it is one of a number.
		if first, _, _ := strings.Cut(string(v), " "); exponent(first) > maxDigits {
			return builtins.NewOperandErr(at, "must have no more than %d digits", maxDigits)
		}
	case *ast.Array:
		v.Foreach(each)
	case ast.Set:
		v.Foreach(each)
	}
	return err
}

// digits is how many digits a number has at most where it is written without an
// exponent.
func digits(number string) int { return len(number) + exponent(number) }

// exponent is by how many digits the exponent in the text of a number moves its point;
// what follows it, such as a unit, does not count.
func exponent(number string) int {
	i := strings.IndexAny(number, "eE")
	if i <= 0 || number[i-1] != '.' && (number[i-1] < '0' || number[i-1] > '9') {
		return 0
	}
	text := strings.TrimLeft(number[i+1:], "+-")
	if end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		text = text[:end]
	}
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return maxDigits + 1 // more than an int has room for
	}
	return n
}

// checkProduct refuses factors whose product would have too many digits.
func checkProduct(operands []*ast.Term) error {
	all := 0
	count := func(t *ast.Term) {
		if n, ok := t.Value.(ast.Number); ok && n != "1" && n != "0" {
			all += digits(string(n))
		}
	}
	switch v := operands[0].Value.(type) {
	case *ast.Array:
		v.Foreach(count)
	case ast.Set:
		v.Foreach(count)
	}
	if all > maxDigits {
		return builtins.NewOperandErr(1, "must have no more than %d digits together", maxDigits)
	}
	return nil
}

// checkExpand refuses a range of too many addresses.
func checkExpand(operands []*ast.Term) error {
	text, ok := operands[0].Value.(ast.String)
	if !ok {
		return nil // which the builtin refuses
	}
	_, network, err := net.ParseCIDR(string(text))
	if err != nil {
		return nil //nolint:nilerr // likewise
	}
	if ones, bits := network.Mask.Size(); 1<<min(bits-ones, 62) > maxAddresses {
		return builtins.NewOperandErr(1, "must be a range of no more than %d addresses", maxAddresses)
	}
	return nil
}

// checkRange refuses a range of too many numbers.
func checkRange(operands []*ast.Term) error {
	var numbers []int64
	for _, operand := range operands {
		n, ok := operand.Value.(ast.Number)
		if !ok {
			return nil // which the builtin refuses
		}
		i, exact := n.Int64()
		if !exact {
			if strings.ContainsAny(string(n), ".") {
				return nil // likewise
			}
			return fmt.Errorf("a range from or to %.20s is not made", string(n))
		}
		numbers = append(numbers, i)
	}
	from, to, step := numbers[0], numbers[1], int64(1)
	if len(numbers) > 2 {
		step = max(numbers[2], 1)
	}
	if span := float64(max(from, to)) - float64(min(from, to)); span/float64(step) > maxRange {
		return fmt.Errorf("a range of more than %d numbers is not made", maxRange)
	}
	return nil
}
