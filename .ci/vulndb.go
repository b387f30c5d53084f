//go:build ignore

// Vulndb lays the reports of the module golang.org/x/vulndb out as govulncheck reads them
// from a folder (https://go.dev/doc/security/vuln/database).
//
//	go run .ci/vulndb.go <folder of the module> <folder of the database>
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"time"
)

// report is what the index needs of a report (https://ossf.github.io/osv-schema).
type report struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
	Affected []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected"`
}

// vulnerability is an entry of a module in the index. Modified is a time of RFC 3339, as the
// report has it.
type vulnerability struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
}

// module lists what is known of a module. govulncheck reads the reports of those alone that a
// program uses.
type module struct {
	Path            string          `json:"path"`
	Vulnerabilities []vulnerability `json:"vulns"`
}

// main takes two folders, and panics without them: only a script of this folder calls it.
func main() {
	if err := layOut(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// layOut writes each report as it is, under its id, and the two indexes that govulncheck asks
// for. A report that names a module several times is listed once.
func layOut(from, to string) error {
	for _, name := range []string{"ID", "index"} {
		if err := os.MkdirAll(filepath.Join(to, name), 0o755); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(from, "data", "osv", "*.json"))
	if err != nil {
		return err
	}
	modules := make(map[string]*module)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, "ID", r.ID+".json"), text, 0o644); err != nil {
			return err
		}
		seen := make(map[string]bool)
		for _, affected := range r.Affected {
			path := affected.Package.Name
			if seen[path] {
				continue
			}
			seen[path] = true
			if modules[path] == nil {
				modules[path] = &module{Path: path}
			}
			modules[path].Vulnerabilities = append(modules[path].Vulnerabilities, vulnerability{r.ID, r.Modified})
		}
	}
	index := make([]*module, 0, len(modules))
	for _, m := range modules {
		index = append(index, m)
	}
	// govulncheck searches this file as a whole, so the order does not matter.
	if err := write(filepath.Join(to, "index", "modules.json"), index); err != nil {
		return err
	}
	return write(filepath.Join(to, "index", "db.json"), map[string]time.Time{"modified": time.Now().UTC()})
}

// write writes a value as JSON, in place of a file that is there.
func write(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
