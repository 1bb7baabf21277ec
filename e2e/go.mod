// Not a Go module: it keeps ./... of the repository out of node_modules, some of
// which have Go files.
module github.com/stagedoor/stagedoor/e2e

go 1.26
