package migrate

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/stagedoor/stagedoor/bundles"
)

// bundleFiles are the manifest, data and schema of a bundle.
func bundleFiles(roots []string, data map[string]any) (map[string][]byte, error) {
	manifest, err := document(map[string]any{"roots": roots, "rego_version": 1})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{".manifest": manifest}
	if files["data.json"], err = document(data); err != nil {
		return nil, err
	}
	files["data.schema.json"], err = bundleFile("data.schema.json")
	return files, err
}

func bundleFile(name string) ([]byte, error) { return fs.ReadFile(bundles.RBAC(), name) }

// document is JSON as people read it, with sorted members.
func document(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(v)
	return text.Bytes(), err
}

// Write writes files into a directory, which it makes.
func Write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a policy is no secret
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	return nil
}
