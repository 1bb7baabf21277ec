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
	"slices"
	"strings"
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

// Meant is the nearest of the names, where it is near; empty where none is, and where the
// name is one of them.
func Meant(name string, names []string) string {
	if nearest := Nearest(name, names); nearest != name && Near(name, nearest) {
		return nearest
	}
	return ""
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

// changes is how many changes make one text the other. Each row has the changes from the
// first letters of one text to the first letters of the other; two rows before it are known.
func changes(from, to string) int {
	a, b := []rune(from), []rune(to)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range b {
			other := 1
			if a[i] == b[j] {
				other = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+other)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
