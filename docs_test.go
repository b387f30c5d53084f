package systemkeys_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testsOf returns the names of all tests and fuzz targets, by folder.
func testsOf(t *testing.T) map[string]map[string]bool {
	t.Helper()
	found := make(map[string]map[string]bool)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				if found[folder] == nil {
					found[folder] = make(map[string]bool)
				}
				found[folder][f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// named are a folder and the names of its tests, as docs/security.md has them.
var named = regexp.MustCompile("`([a-z/]+)`((?: (?:Test|Fuzz)[A-Za-z0-9]+)+)")

// TestEveryTestInTheSecurityDocumentExists looks for those that docs/security.md
// names, and for tests of incidents and fuzz targets that it does not.
func TestEveryTestInTheSecurityDocumentExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, seen := testsOf(t), make(map[string]bool)
	for _, group := range named.FindAllStringSubmatch(string(text), -1) {
		for name := range strings.FieldsSeq(group[2]) {
			if !tests[group[1]][name] {
				t.Errorf("there is no %s in %s", name, group[1])
			}
			seen[group[1]+" "+name] = true
		}
	}
	for folder, names := range tests {
		for name := range names {
			if (strings.HasPrefix(name, "TestIncident") || strings.HasPrefix(name, "Fuzz")) && !seen[folder+" "+name] {
				t.Errorf("docs/security.md does not name %s in %s", name, folder)
			}
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d tests are named", len(seen))
	}
}

// TestEveryClassOfIncidentHasAReferenceAndATest reads the table of them.
func TestEveryClassOfIncidentHasAReferenceAndATest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| class | public reference | our tests |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) != 3 || strings.TrimSpace(cells[1]) == "" || !named.MatchString(cells[2]) {
			t.Errorf("%s", row)
		}
		for group := range strings.SplitSeq(cells[len(cells)-1], ";") {
			if found := named.FindString(group); found != strings.TrimSpace(group) {
				t.Errorf("%q is no folder and its tests", group)
			}
		}
	}
	if len(rows) < 15 {
		t.Errorf("there are only %d classes", len(rows))
	}
}
