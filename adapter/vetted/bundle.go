package vetted

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stagedoor/stagedoor/adapter/document/patch"
)

// Acceptable returns why a bundle of the name is refused that OPA would take and that would
// do harm, whatever is beside it; or nil.
func (v *Vetter) Acceptable(name string, b *bundle.Bundle) error {
	if len(b.WasmModules) > 0 {
		return fmt.Errorf("bundle %s holds WebAssembly, and stagedoor evaluates Rego: build it without -t wasm", name)
	}
	if b.Manifest.Roots == nil || slices.Contains(*b.Manifest.Roots, "") {
		if len(b.Modules) == 0 && len(b.Data) == 0 {
			return fmt.Errorf("bundle %s is empty: it has no policy (*.rego) and no data (data.json, data.yaml)", name)
		}
		return fmt.Errorf("bundle %s declares no roots, so it would own all data and erase every other bundle: "+
			"write a file .manifest beside its policies that says {\"roots\": [%s]}",
			name, strings.Join(suggestRoots(b), ", "))
	}
	for _, root := range *b.Manifest.Roots {
		if !patch.IsPlainRoot(root) {
			return fmt.Errorf("bundle %s: the root %.100q is not written as it is read: write it without %%", name, root)
		}
		if ownedByOPA(root) {
			return fmt.Errorf("bundle %s: the root %s covers what OPA itself keeps of all bundles; "+
				"the mask of the decision log is at system/log", name, root)
		}
		for _, written := range v.writable {
			if bundle.RootPathsOverlap(root, written) {
				return fmt.Errorf("bundle %s: the root %s meets with %s, whose data is written from outside "+
					"(stagedoor.admin.dataRoots)", name, root, written)
			}
		}
	}
	return nil
}

// takeOwn takes those modules out of the bundle that are the rule library's own, as
// `opa build -b` puts them in beside the policy: stagedoor brings them itself.
func (v *Vetter) takeOwn(b *bundle.Bundle) error {
	var others []bundle.ModuleFile
	for _, file := range b.Modules {
		own, err := v.IsOwn(file.Parsed)
		switch {
		case err != nil && slices.ContainsFunc(b.Modules, isOptimized):
			return fmt.Errorf("%s: %s", file.Path, optimizedHint)
		case err != nil:
			return fmt.Errorf("%s: %w", file.Path, err)
		}
		if !own {
			others = append(others, file)
			continue
		}
		// OPA's store takes the files of a bundle that was fetched as they came, and the next
		// compilation, of another bundle too, would find the library there.
		b.Raw = slices.DeleteFunc(b.Raw, func(raw bundle.Raw) bool {
			return strings.HasSuffix(raw.Path, "/"+strings.TrimPrefix(file.Path, "/")) && bytes.Equal(raw.Value, file.Raw)
		})
	}
	b.Modules = others
	return nil
}

// IsOwn reports whether the module is one of the rule library. The error is that of
// another version of it.
func (v *Vetter) IsOwn(module *ast.Module) (bool, error) {
	for _, name := range slices.Sorted(maps.Keys(v.library)) {
		library := v.library[name]
		if !module.Package.Path.Equal(library.Package.Path) {
			continue
		}
		if module.Equal(library) {
			return true, nil
		}
		return false, fmt.Errorf("package %s is of the rule library, but not as this version of stagedoor has it: "+
			"write the library anew with `stagedoor rules export` and build the bundle again, or leave the package out",
			trimData(library.Package.Path.String()))
	}
	return false, nil
}

// optimizedHint is what to do about a policy about the resource that was optimized.
const optimizedHint = "the bundle was built by `opa build -O`, which writes the rules of the library out, " +
	"so that they cannot become conditions: build it without -O"

// isOptimized reports whether `opa build -O` made the module.
func isOptimized(file bundle.ModuleFile) bool {
	return strings.Contains("/"+file.Path, "/optimized/")
}

// ownedByOPA reports whether a bundle with the root would erase what OPA's store
// knows of other bundles.
func ownedByOPA(root string) bool {
	own := []string{"system/bundle", "system/bundles", "system/modules", "system/version"}
	return bundle.RootPathsContain([]string{root}, own[0]) || bundle.RootPathsContain(own, root)
}

// suggestRoots names the packages and top-level data of the bundle.
func suggestRoots(b *bundle.Bundle) []string {
	roots := map[string]bool{}
	for _, file := range b.Modules {
		if p, err := file.Parsed.Package.Path.Ptr(); err == nil {
			roots[strings.TrimPrefix(p, "data/")] = true
		}
	}
	covered := func(key string) bool {
		for root := range roots {
			if root == key || strings.HasPrefix(root, key+"/") {
				return true
			}
		}
		return false
	}
	for _, key := range dataKeys(b) {
		if !covered(key) {
			roots[key] = true
		}
	}
	var quoted []string
	for _, root := range slices.Sorted(maps.Keys(roots)) {
		quoted = append(quoted, fmt.Sprintf("%q", root))
	}
	return quoted
}

// dataKeys are the top-level keys of the bundle's data, which is not parsed yet
// where the bundle was downloaded.
func dataKeys(b *bundle.Bundle) []string {
	keys := slices.Collect(maps.Keys(b.Data))
	for _, file := range b.Raw {
		if base := path.Base(file.Path); base != "data.json" && !bundle.IsYAMLDataFile(file.Path) {
			continue
		}
		if top, _, _ := strings.Cut(strings.Trim(path.Dir(file.Path), "/."), "/"); top != "" {
			keys = append(keys, top)
			continue
		}
		var document map[string]any
		if util.Unmarshal(file.Value, &document) == nil {
			keys = slices.AppendSeq(keys, maps.Keys(document))
		}
	}
	return keys
}

// Bundle is what a state is told of a bundle that it is made of.
type Bundle struct {
	Revision string
}

// Active are the bundles that are active as OPA's store has it, by name.
func Active(ctx context.Context, s storage.Store, txn storage.Transaction) (map[string]Bundle, error) {
	names, err := bundle.ReadBundleNamesFromStore(ctx, s, txn)
	if err != nil && !storage.IsNotFound(err) {
		return nil, err
	}
	active := make(map[string]Bundle, len(names))
	for _, name := range names {
		revision, err := bundle.ReadBundleRevisionFromStore(ctx, s, txn, name)
		if err != nil && !storage.IsNotFound(err) {
			return nil, err
		}
		_, err = bundle.ReadBundleRootsFromStore(ctx, s, txn, name)
		if storage.IsNotFound(err) {
			continue // taken out: OPA leaves the name behind
		}
		if err != nil {
			return nil, err
		}
		active[name] = Bundle{Revision: revision}
	}
	return active, nil
}

// annotate parses modules again that were parsed without their METADATA, in which
// the entrypoint and the permission rules are. OPA reads persisted bundles so.
func annotate(b *bundle.Bundle) error {
	for i, m := range b.Modules {
		if len(m.Parsed.Annotations) > 0 || !bytes.Contains(m.Raw, []byte("METADATA")) {
			continue
		}
		module, err := parseModule(m.Path, string(m.Raw), m.Parsed.RegoVersion()) //nolint:staticcheck // as OPA parsed it
		if err != nil {
			return err
		}
		b.Modules[i].Parsed = module
	}
	return nil
}

// contentRevision names a bundle that does not name its revision by its content.
func contentRevision(b *bundle.Bundle) string { return RevisionOfHash(contentHash(b).Sum(nil)) }

// Fingerprint is the same for two bundles where they are the same, in content and
// manifest. It is to be taken before a bundle is vetted, which changes it.
func Fingerprint(b *bundle.Bundle) (fingerprint [sha256.Size]byte) {
	h := contentHash(b)
	manifest, _ := json.Marshal(b.Manifest) // it was made of JSON; the keys are sorted
	_, _ = h.Write(manifest)                // a hash takes everything
	h.Sum(fingerprint[:0])
	return fingerprint
}

// contentHash has taken in the files of a bundle.
func contentHash(b *bundle.Bundle) hash.Hash {
	h := sha256.New()
	add := func(name string, content []byte) {
		sum := sha256.Sum256(content)
		_, _ = fmt.Fprintf(h, "%q %x\n", name, sum)
	}
	for _, m := range sortedBy(b.Modules, func(m bundle.ModuleFile) string { return m.Path }) {
		add(m.Path, m.Raw)
	}
	for _, file := range sortedBy(b.Raw, func(r bundle.Raw) string { return r.Path }) {
		// The modules are among them once more, under other names where they were fetched.
		if !strings.HasSuffix(file.Path, bundle.RegoExt) {
			add(file.Path, file.Value)
		}
	}
	data, _ := json.Marshal(b.Data)
	add("data", data)
	return h
}

// RevisionOfHash names content by its hash, shortened to what is still unlikely to be
// another's.
func RevisionOfHash(sum []byte) string { return "sha256:" + hex.EncodeToString(sum[:6]) }

func sortedBy[E any](list []E, key func(E) string) []E {
	return slices.SortedFunc(slices.Values(list), func(a, b E) int { return strings.Compare(key(a), key(b)) })
}

// writtenName is the name under which the revision of data tells what was written from
// outside. It can be no bundle's.
const writtenName = "/v1/data"

// RevisionOf names a set of bundles by the revision of each: the revision of a single one,
// else all by name, and what was written from outside.
func RevisionOf(revisions map[string]string, written string) string {
	if len(revisions) == 1 && written == "" {
		for _, revision := range revisions {
			return revision
		}
	}
	var named []string
	for _, name := range slices.Sorted(maps.Keys(revisions)) {
		named = append(named, name+"="+revisions[name])
	}
	if written != "" {
		named = append(named, writtenName+"="+written)
	}
	return strings.Join(named, ",")
}
