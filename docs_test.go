package systemkeys_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
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

// TestEveryTestInTheSecurityTableExists reads the column of tests of
// docs/security.md: groups with a semicolon between them, each of a folder and
// names. And what is a test of an incident must be named there.
func TestEveryTestInTheSecurityTableExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| class | public reference | our tests |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	tests, named := testsOf(t), make(map[string]bool)
	for i, row := range strings.Split(table, "\n") {
		if i == 0 {
			continue // the line below the head
		}
		cells := strings.Split(strings.Trim(row, "|"), " | ")
		if len(cells) != 3 || strings.TrimSpace(cells[1]) == "" {
			t.Fatalf("row %d has not three cells: %s", i, row)
		}
		for group := range strings.SplitSeq(cells[2], ";") {
			words := strings.Fields(group)
			if len(words) < 2 || !strings.HasPrefix(words[0], "`") {
				t.Fatalf("%q names no folder and tests", group)
			}
			folder := strings.Trim(words[0], "`")
			for _, name := range words[1:] {
				if !tests[folder][name] {
					t.Errorf("there is no %s in %s", name, folder)
				}
				named[name] = true
			}
		}
	}
	for folder, names := range tests {
		for name := range names {
			if strings.HasPrefix(name, "TestIncident") && !named[name] {
				t.Errorf("docs/security.md does not name %s in %s", name, folder)
			}
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
}
