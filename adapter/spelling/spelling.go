// Package spelling tells which name is meant by one that nobody knows.
//
// There is one rule of how near two names are: how many changes make one the other, beside
// the letters of the longer. In a name of one or two letters there may be none. From three
// letters on it is one change, from six on two, and from twelve on a quarter of the letters.
//
// A change is a letter more, a letter less, another letter, or two neighbours in each other's
// place. That is the distance of Damerau and Levenshtein in its restricted form, known as
// optimal string alignment. Upper and lower case are the same letter.
package spelling

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Nearest is the name that is spelt most like one, however far it is; empty where there are
// no names. Of those that are as near it is the one whose case is more alike, and then the
// first in the order of the alphabet.
func Nearest(name string, names []string) string {
	sorted := slices.Sorted(slices.Values(names))
	if len(sorted) == 0 {
		return ""
	}
	nearest, least := sorted[0], folded(name, sorted[0])
	for _, other := range sorted[1:] {
		n := folded(name, other)
		if n < least || n == least && changes(name, other) < changes(name, nearest) {
			nearest, least = other, n
		}
	}
	return nearest
}

// Meant is the nearest of the names that are near; empty where none is, and where the name
// is one of them.
func Meant(name string, names []string) string { return NewNames(names).Meant(name) }

// Names are names that may be meant. It is immutable.
type Names struct{ all []candidate }

// candidate is a name that may be meant.
type candidate struct {
	name  string
	lower []rune
}

// NewNames makes ready to look for names many times.
func NewNames(names []string) Names {
	var n Names
	for _, name := range slices.Sorted(slices.Values(names)) {
		n.all = append(n.all, candidate{name, []rune(strings.ToLower(name))})
	}
	return n
}

// Meant is the nearest of the names that are near, as the function of that name says.
func (n Names) Meant(name string) string {
	lower, letters := []rune(strings.ToLower(name)), utf8.RuneCountInString(name)
	var rows rows
	nearest, least := "", math.MaxInt
	for _, c := range n.all {
		if c.name == name {
			return ""
		}
		bound := min(most(max(letters, utf8.RuneCountInString(c.name))), least)
		if d := rows.changes(lower, c.lower, bound); d <= bound &&
			(d < least || changes(name, c.name) < changes(name, nearest)) {
			nearest, least = c.name, d
		}
	}
	return nearest
}

// Near reports whether one name may be meant by the other.
func Near(name, other string) bool {
	return folded(name, other) <= most(max(len([]rune(name)), len([]rune(other))))
}

// most is how many changes there may be in a name of so many letters.
func most(letters int) int {
	switch {
	case letters < 3:
		return 0
	case letters < 6:
		return 1
	}
	return max(2, letters/4)
}

func folded(a, b string) int { return changes(strings.ToLower(a), strings.ToLower(b)) }

// changes is how many changes make one text the other.
func changes(from, to string) int {
	var rows rows
	return rows.changes([]rune(from), []rune(to), math.MaxInt)
}

// rows are what counting changes needs room for. Each row has the changes from the first
// letters of one text to the first letters of the other; two rows before it are known.
type rows struct{ before, last, row []int }

// changes is how many changes make one text the other, or more than the bound where it is
// more.
func (r *rows) changes(a, b []rune, bound int) int {
	if n := max(len(a)-len(b), len(b)-len(a)); n > bound {
		return n
	}
	if len(r.row) <= len(b) {
		r.before, r.last, r.row = make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	}
	before, last, row := r.before, r.last, r.row
	for j := range len(b) + 1 {
		row[j] = j
	}
	passed := 0 // the least of the row before
	for i := range a {
		before, last, row = last, row, before
		row[0] = i + 1
		least := row[0]
		for j := range b {
			other := 1
			if a[i] == b[j] {
				other = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+other)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
			least = min(least, row[j+1])
		}
		if least > bound && passed > bound { // what comes is made of these two rows
			return least
		}
		passed = least
	}
	return row[len(b)]
}
