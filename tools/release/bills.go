package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// bills writes what the binary for a platform is made of, as SPDX 2.3 and as
// CycloneDX 1.6, both in JSON. The modules are those that the linker recorded in
// the binary, so modules that only tests use are not among them.
func (r *release) bills(p platform) error {
	info, err := buildinfo.ReadFile(r.binary(p))
	if err != nil {
		return err
	}
	sum, err := sha256Of(r.binary(p))
	if err != nil {
		return err
	}
	modules := modulesOf(info)
	name := filepath.Base(r.binary(p))
	if err := r.writeSPDX(name, hex.EncodeToString(sum), modules); err != nil {
		return fmt.Errorf("SPDX of %s: %w", name, err)
	}
	if err := r.writeCycloneDX(name, hex.EncodeToString(sum), modules); err != nil {
		return fmt.Errorf("CycloneDX of %s: %w", name, err)
	}
	return nil
}

// module is one Go module that is linked in, the standard library included.
type module struct{ path, version, sum string }

func (m module) purl() string { return "pkg:golang/" + m.path + "@" + m.version }

func modulesOf(info *debug.BuildInfo) []module {
	modules := []module{{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		modules = append(modules, module{dep.Path, dep.Version, dep.Sum})
	}
	slices.SortFunc(modules, func(a, b module) int { return cmp.Compare(a.path, b.path) })
	return modules
}

const productPURL = "pkg:golang/github.com/stagedoor/stagedoor@"

func (r *release) writeSPDX(name, sum string, modules []module) error {
	const none = "NOASSERTION"
	product := &spdx.Package{
		PackageName: "stagedoor", PackageSPDXIdentifier: "Package-stagedoor", PackageVersion: r.version,
		PackageFileName: name, PackageDownloadLocation: none,
		PackageLicenseDeclared: "Apache-2.0", PackageLicenseConcluded: "Apache-2.0", PackageCopyrightText: none,
		PackageChecksums:          []common.Checksum{{Algorithm: common.SHA256, Value: sum}},
		PackageExternalReferences: []*spdx.PackageExternalReference{purlReference(productPURL + r.version)},
		PrimaryPackagePurpose:     "APPLICATION",
	}
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: name, DocumentNamespace: "https://github.com/stagedoor/stagedoor/spdx/" + r.version + "/" + sum,
		CreationInfo: &spdx.CreationInfo{
			Created:  r.time.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "stagedoor-release"}},
		},
		Packages: []*spdx.Package{product},
		Relationships: []*spdx.Relationship{{
			RefA: common.MakeDocElementID("", "DOCUMENT"), RefB: common.MakeDocElementID("", "Package-stagedoor"),
			Relationship: common.TypeRelationshipDescribe,
		}},
	}
	for i, m := range modules {
		id := common.ElementID(fmt.Sprintf("Package-%d", i))
		document.Packages = append(document.Packages, &spdx.Package{
			PackageName: m.path, PackageSPDXIdentifier: id, PackageVersion: m.version,
			PackageDownloadLocation: none, PackageLicenseDeclared: none, PackageLicenseConcluded: none,
			PackageCopyrightText:      none,
			PackageExternalReferences: []*spdx.PackageExternalReference{purlReference(m.purl())},
		})
		document.Relationships = append(document.Relationships, &spdx.Relationship{
			RefA:         common.MakeDocElementID("", "Package-stagedoor"),
			RefB:         common.DocElementID{ElementRefID: id},
			Relationship: common.TypeRelationshipDependsOn,
		})
	}
	var text bytes.Buffer
	if err := spdxjson.Write(document, &text, spdxjson.Indent("  ")); err != nil {
		return err
	}
	return r.write(name+".spdx.json", text.Bytes())
}

func purlReference(purl string) *spdx.PackageExternalReference {
	return &spdx.PackageExternalReference{
		Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl,
	}
}

func (r *release) writeCycloneDX(name, sum string, modules []module) error {
	product := cyclonedx.Component{
		BOMRef: productPURL + r.version, Type: cyclonedx.ComponentTypeApplication, Name: "stagedoor", Version: r.version,
		PackageURL: productPURL + r.version,
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: sum}},
		Licenses:   &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}},
	}
	var components []cyclonedx.Component
	var needs []string
	for _, m := range modules {
		components = append(components, cyclonedx.Component{
			BOMRef: m.purl(), Type: cyclonedx.ComponentTypeLibrary, Name: m.path, Version: m.version, PackageURL: m.purl(),
		})
		needs = append(needs, m.purl())
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.time.Format(time.RFC3339), Component: &product}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: product.BOMRef, Dependencies: &needs}}
	var text bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true)
	if err := encoder.EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return err
	}
	return r.write(name+".cdx.json", text.Bytes())
}

func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644) //nolint:gosec // to be published
}
