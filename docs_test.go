package systemkeys_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	caddyserver "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what the documents configure

	_ "github.com/lumio-vision/caddy-system-keys" // the plugin
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

// named are a folder and the names of its tests, as the documents about security have them.
var named = regexp.MustCompile("`([a-z/]+)`((?: (?:Test|Fuzz)[A-Za-z0-9]+)+)")

// incidents has the tests for each class of incident, and the fuzz targets.
const incidents = "docs/appendix/incidents.md"

// TestEveryTestInTheSecurityDocumentsExists looks for those that the documents name, and for
// tests of incidents and fuzz targets that docs/appendix/incidents.md does not.
func TestEveryTestInTheSecurityDocumentsExists(t *testing.T) {
	t.Parallel()
	tests, all := testsOf(t), make(map[string]bool)
	for _, document := range []string{"docs/asvs.md", incidents} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for _, group := range named.FindAllStringSubmatch(string(text), -1) {
			for name := range strings.FieldsSeq(group[2]) {
				if !tests[group[1]][name] {
					t.Errorf("%s: there is no %s in %s", document, name, group[1])
				}
				seen[group[1]+" "+name] = true
			}
		}
		if len(seen) < 50 {
			t.Errorf("%s names only %d tests", document, len(seen))
		}
		all = seen // of incidents, the last
	}
	for folder, names := range tests {
		for name := range names {
			if (strings.HasPrefix(name, "TestIncident") || strings.HasPrefix(name, "Fuzz")) && !all[folder+" "+name] {
				t.Errorf("%s does not name %s in %s", incidents, name, folder)
			}
		}
	}
}

// TestTheThreatModelNamesNoTest: it says what holds, and the tables say by which test.
func TestTheThreatModelNamesNoTest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, model, _ := strings.Cut(string(text), "\n## Threat model\n")
	model, _, found := strings.Cut(model, "\n## ")
	if names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(model, -1); !found || len(names) > 0 {
		t.Errorf("the threat model names %v", names)
	}
}

// TestEveryClassOfIncidentHasAReferenceAndATest reads the table of them.
func TestEveryClassOfIncidentHasAReferenceAndATest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(incidents)
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

// documents returns what users read, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "docs/*/*/*.md", "deploy/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(text)
		}
	}
	if len(all) < 10 {
		t.Fatalf("there are %d documents", len(all))
	}
	return all
}

// TestEveryLinkInTheDocumentsLeadsSomewhere follows the links inside the repository, to
// headings too.
func TestEveryLinkInTheDocumentsLeadsSomewhere(t *testing.T) {
	t.Parallel()
	links := regexp.MustCompile(`(?:\]\(|src="|srcset=")([^)"\s]+)`)
	all, followed := documents(t), 0
	for name, text := range all {
		for _, link := range links.FindAllStringSubmatch(text, -1) {
			target, err := url.Parse(link[1])
			if err != nil || target.Scheme != "" {
				continue
			}
			followed++
			file := name
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(name), target.Path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s leads nowhere", name, link[1])
				continue
			}
			if target.Fragment != "" && !anchorsOf(all[file])[target.Fragment] {
				t.Errorf("%s: %s has no such heading", name, link[1])
			}
		}
	}
	if followed < 50 {
		t.Errorf("%d links were followed", followed)
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchorsOf returns the headings of a document, as links name them.
func anchorsOf(text string) map[string]bool {
	anchors := make(map[string]bool)
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			anchors[strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-")] = true
		}
	}
	return anchors
}

// TestEveryAlertHasARunbook follows the link of each alert, and looks there for its name, for
// what to look at and for what to do.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	const file = "docs/operations/runbooks.md"
	runbooks := documents(t)[file]
	anchors := anchorsOf(runbooks)
	sections := make(map[string]string)
	for _, section := range strings.Split(runbooks, "\n## ")[1:] {
		heading, _, _ := strings.Cut(section, "\n")
		for anchor := range anchorsOf("# " + heading) {
			sections[anchor] = section
		}
	}
	alerts, err := os.ReadFile("deploy/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(string(alerts), "- alert: ")[1:]
	for _, alert := range all {
		name, _, _ := strings.Cut(alert, "\n")
		_, link, _ := strings.Cut(alert, "runbook_url: https://github.com/lumio-vision/caddy-system-keys/blob/main/"+file+"#")
		anchor, _, _ := strings.Cut(link, "\n")
		section := sections[anchor]
		if !anchors[anchor] || !strings.Contains(section, "`"+name+"`") {
			t.Errorf("%s: the section %q is not there, or does not name it", name, anchor)
		}
		for _, part := range []string{"**Look at**", "**Do"} {
			if !strings.Contains(section, part) {
				t.Errorf("%s: its runbook has no %s", name, part)
			}
		}
	}
	if len(all) < 15 {
		t.Errorf("there are %d alerts", len(all))
	}
}

// TestEveryCaddyfileInTheDocumentsIsValid has Caddy check each block that is marked as
// one. A block without the global option, or of directives alone, is completed.
func TestEveryCaddyfileInTheDocumentsIsValid(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```")
	checked := 0
	for name, text := range documents(t) {
		for _, block := range blocks.FindAllStringSubmatch(text, -1) {
			checked++
			body := block[1]
			if formatted := string(caddyfile.Format([]byte(body))); formatted != body {
				t.Errorf("%s: not formatted:\n%s\nbut:\n%s", name, body, formatted)
			}
			if regexp.MustCompile(`^(@|route|system_key|handle_errors)`).MatchString(body) {
				body = "http://localhost:8080 {\n" + body + "}\n"
			}
			if !regexp.MustCompile(`(?m)^\tsystem_keys( |$)`).MatchString(body) {
				body = "{\n\tsystem_keys\n}\n" + body
			}
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile.Format([]byte(body)), nil)
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s: %v %v in\n%s", name, err, warnings, body)
				continue
			}
			var config caddyserver.Config
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddyserver.Validate(&config); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, body)
			}
		}
	}
	if checked < 5 {
		t.Errorf("%d Caddyfiles were found", checked)
	}
}
