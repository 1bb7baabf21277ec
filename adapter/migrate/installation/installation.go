// Package installation reads what an installation of the community RBAC plugin of Backstage
// is told, or has stored.
//
// [Sources] say where that is: the CSV of lines and roles (csv.go), the YAML of conditional
// policies (conditions.go), permission.rbac of the app-config (appconfig.go), and an export
// of the catalog's groups (groups.go). In place of the first two, the plugin's REST API is
// asked (rest.go). [Sources.Read] makes an [Installation] of them: each part with its place,
// as it is written, before anybody judges it.
//
// What cannot be read is a [RefusedError], which tells all of it by file and line. A part
// that the plugin would skip without a word is a refusal too, where it cannot be told what
// it says. A [Finding] is what can be read, and should be known.
package installation

import "github.com/stagedoor/stagedoor/adapter/migrate/written"

// An Installation is what the sources say.
type Installation struct {
	Settings

	Lines    []Line
	Bindings []Binding
	Policies []Policy
	// Groups is nil where nothing is known of groups.
	Groups map[string][]string
	// Stored is whether the sources are what the plugin has stored, and not what it has yet
	// to read. Of files it skips what it does not like.
	Stored bool
}

// A Row says what became of something in the sources.
type Row struct {
	At written.Place
	// Span is its lines where there are several, such as 3-17.
	Span         string
	What, Became string
}
