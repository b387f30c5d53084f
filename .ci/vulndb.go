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

type vulnerability struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
}

type module struct {
	Path            string          `json:"path"`
	Vulnerabilities []vulnerability `json:"vulns"`
}

func main() {
	if err := layOut(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

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
	if err := write(filepath.Join(to, "index", "modules.json"), index); err != nil {
		return err
	}
	return write(filepath.Join(to, "index", "db.json"), map[string]time.Time{"modified": time.Now().UTC()})
}

func write(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
