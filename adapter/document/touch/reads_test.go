package touch_test

import (
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document/touch"
)

func TestChangesReachWhatWasRead(t *testing.T) {
	for _, row := range []struct {
		read, changed string
		reaches       bool
	}{
		{"/a/b", "/a/b", true},
		{"/a/b", "/a", true},
		{"/a/b", "/", true},
		{"/a/b", "/a/b/c", true},
		{"/a/b", "/a/b/c/d", true},
		{"/", "/x/y", true},
		{"/a/b", "/a/c", false},
		{"/a/b", "/a/bc", false},
		{"/a/b", "/b", false},
		{"/a/b", "/ab", false},
		{"/a/b/c", "/a/b/d/c", false},
		{"/ab/c", "/a/bc", false},
	} {
		var reads touch.Reads
		reads.Note(storage.MustParsePath("/other/place"))
		reads.Note(storage.MustParsePath(row.read))
		touched := touch.New([]storage.Path{storage.MustParsePath("/q/r/s"), storage.MustParsePath(row.changed)})
		if got := touched.Reaches(reads.Read()); got != row.reaches {
			t.Errorf("a change at %s reaches who read %s: %t", row.changed, row.read, got)
		}
	}
}

// TestManyReadsAreEverything notes more than is kept.
func TestManyReadsAreEverything(t *testing.T) {
	var reads touch.Reads
	for n := range 10_000 {
		reads.Note(storage.Path{"a", strconv.Itoa(n)})
	}
	if kept := reads.Read().Size(); kept > 4*10_000 || !touch.New([]storage.Path{{"z"}}).Reaches(reads.Read()) {
		t.Errorf("%d bytes are kept of many reads, and a change does not reach them", kept)
	}
	var none touch.Reads
	if touch.New([]storage.Path{{}}).Reaches(none.Read()) {
		t.Error("a change reaches who read nothing")
	}
}
