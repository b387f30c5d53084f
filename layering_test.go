package systemkeys_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/lumio-vision/caddy-system-keys"

// Third-party modules that are kept to one layer each, by prefix.
var (
	caddy   = []string{"github.com/caddyserver/"}
	zap     = []string{"go.uber.org/zap"}
	clients = []string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/redis/"}
	sql     = []string{"database/sql"} // which Prometheus's client imports
)

// layer says what the packages that match a pattern may depend on. A pattern is
// a path below the module; with /... behind it, it takes in the packages below.
type layer struct {
	packages string
	// ours are the patterns of this module's packages that may be reached.
	ours []string
	// standardOnly forbids everything outside the standard library and ours.
	standardOnly bool
	// never must not be reached by any road, notDirectly not by an import.
	never, notDirectly []string
	// planned layers may have no packages yet.
	planned bool
}

// layers are looked through from the top; the first that matches a package is
// its layer.
var layers = []layer{
	{packages: "store", standardOnly: true},
	{packages: "store/storetest", ours: []string{"store"}, never: slices.Concat(caddy, zap, clients)},
	{packages: "store/open", ours: []string{"store/...", "internal/..."}, never: slices.Concat(caddy, zap)},
	{packages: "store/...", ours: []string{"store", "internal/..."}, never: slices.Concat(caddy, zap)},
	{packages: "internal/token", standardOnly: true},
	{packages: "internal/sqlstore", ours: []string{"store"}, never: slices.Concat(caddy, zap, clients)}, // a part of the drivers
	{
		packages: "internal/testenv/plane", ours: []string{"store/...", "internal/...", "admin/...", "internal/testenv/..."},
		never: slices.Concat(caddy, zap),
	},
	{packages: "internal/testenv/...", never: slices.Concat(caddy, zap)},
	{
		packages: "internal/...", ours: []string{"store", "internal/..."},
		never: slices.Concat(caddy, zap, clients), notDirectly: sql,
	},
	{
		packages: "admin/...", ours: []string{"store", "internal/...", "admin/..."},
		never: slices.Concat(caddy, zap, clients), notDirectly: sql,
	},
	{packages: "upstream/...", ours: []string{"upstream/..."}, standardOnly: true},
	{
		packages: "caddymodule/app", // which knows no handler
		ours:     []string{"store/...", "internal/...", "caddymodule/option", "caddymodule/request", "caddymodule/resolve", "caddymodule/source"},
	},
	{packages: "caddymodule/...", ours: []string{"store/...", "internal/...", "admin/...", "caddymodule/..."}},
	{packages: "", ours: []string{"..."}, notDirectly: slices.Concat(caddy, zap, clients)},
	{packages: "cmd/...", ours: []string{"..."}, notDirectly: slices.Concat(zap, clients)},
	{packages: "integration/...", ours: []string{"..."}, notDirectly: zap},
	{packages: "bench/...", ours: []string{"...", "internal/testenv/..."}, notDirectly: zap, planned: true},
}

// forTests are reached by tests, which this test does not look at, and by layers
// that name them.
var forTests = []string{"internal/testenv/...", "store/storetest/..."}

// imports is a graph: a package's path to the paths that it imports.
type imports map[string][]string

func TestEveryPackageKeepsToItsLayer(t *testing.T) {
	t.Parallel()
	for _, violation := range violations(list(t)) {
		t.Error(violation)
	}
}

func TestEveryLayerHasPackages(t *testing.T) {
	t.Parallel()
	graph := list(t)
	found := map[string]bool{}
	for path := range graph {
		if l, ok := layerOf(path); ok {
			found[l.packages] = true
		}
	}
	for _, l := range layers {
		if !found[l.packages] && !l.planned {
			t.Errorf("no package is in layer %q", l.packages)
		}
	}
}

func TestAForbiddenImportIsFound(t *testing.T) {
	t.Parallel()
	const other = "example.com/other"
	for name, c := range map[string]struct {
		graph imports
		want  []string
	}{
		"the store may use the standard library": {
			imports{"store": {"errors", "vendor/golang.org/x/net/idna"}}, nil,
		},
		"a driver may use the store and its client": {
			imports{"store/x": {"store", "github.com/jackc/pgx/v5"}, "store": {"errors"}}, nil,
		},
		"the module may wire everything": {
			imports{"caddymodule": {"admin", "store/x", "internal/y", "go.uber.org/zap", "github.com/caddyserver/caddy/v2"}}, nil,
		},
		"the store uses another module": {
			imports{"store": {other}}, []string{"store → " + other},
		},
		"the store uses another module by way of one of ours": {
			imports{"store": {"store/x"}, "store/x": {other}}, []string{"store → store/x", "store → store/x → " + other},
		},
		"a driver knows its neighbour": {
			imports{"store/x": {"store/y"}}, []string{"store/x → store/y"},
		},
		"a driver knows Caddy by way of its client": {
			imports{"store/x": {other}, other: {"github.com/caddyserver/certmagic"}},
			[]string{"store/x → " + other + " → github.com/caddyserver/certmagic"},
		},
		"the suite knows a driver": {
			imports{"store/storetest": {"store/x"}}, []string{"store/storetest → store/x"},
		},
		"an internal package knows a driver": {
			imports{"internal/x": {"store/y"}}, []string{"internal/x → store/y"},
		},
		"an internal package knows a client": {
			imports{"internal/x/y": {"github.com/redis/go-redis/v9"}}, []string{"internal/x/y → github.com/redis/go-redis/v9"},
		},
		"an internal package speaks to a database": {
			imports{"internal/x": {"database/sql"}}, []string{"internal/x → database/sql"},
		},
		"an internal package logs with zap": {
			imports{"internal/x": {"go.uber.org/zap/zapcore"}}, []string{"internal/x → go.uber.org/zap/zapcore"},
		},
		"admin knows Caddy": {
			imports{"admin/page": {"github.com/caddyserver/caddy/v2"}}, []string{"admin/page → github.com/caddyserver/caddy/v2"},
		},
		"admin knows the module": {
			imports{"admin": {"caddymodule"}}, []string{"admin → caddymodule"},
		},
		"the app knows a handler": {
			imports{"caddymodule/app": {"caddymodule/adminplane"}}, []string{"caddymodule/app → caddymodule/adminplane"},
		},
		"upstream knows one of ours": {
			imports{"upstream": {"internal/x"}}, []string{"upstream → internal/x"},
		},
		"the module knows the command": {
			imports{"caddymodule": {"cmd/caddy"}}, []string{"caddymodule → cmd/caddy"},
		},
		"the command logs with zap": {
			imports{"cmd/caddy": {"go.uber.org/zap"}}, []string{"cmd/caddy → go.uber.org/zap"},
		},
		"the command reaches zap through the module": {
			imports{"cmd/caddy": {"caddymodule"}, "caddymodule": {"go.uber.org/zap"}}, nil,
		},
		"what is for tests is shipped": {
			imports{"internal/x": {"internal/testenv"}, "caddymodule": {"store/storetest"}},
			[]string{"caddymodule → store/storetest", "internal/x → internal/testenv"},
		},
		"the benchmarks start databases as tests do": {
			imports{"bench": {"internal/testenv"}}, nil,
		},
		"the benchmarks use a suite of tests": {
			imports{"bench": {"store/storetest"}}, []string{"bench → store/storetest"},
		},
		"a package of no layer": {
			imports{"helpers": nil}, []string{"helpers is in no layer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graph := imports{}
			for path, to := range c.graph {
				full := make([]string, 0, len(to))
				for _, p := range to {
					full = append(full, absolute(p))
				}
				graph[absolute(path)] = full
			}
			if diff := cmp.Diff(c.want, violations(graph)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// absolute puts the module before paths of the test's tables that are ours.
func absolute(path string) string {
	for _, l := range append(layers, layer{packages: "helpers"}) {
		if l.packages != "" && match(l.packages, path) {
			return module + "/" + path
		}
	}
	return path
}

// violations returns each road by which a package of ours reaches what it must
// not, shortest roads only, sorted.
func violations(graph imports) []string {
	var found []string
	for path := range graph {
		name, mine := ours(path)
		if !mine {
			continue
		}
		l, ok := layerOf(path)
		if !ok {
			found = append(found, name+" is in no layer")
			continue
		}
		for _, road := range roads(graph, path) {
			if l.forbids(road) {
				found = append(found, describe(road))
			}
		}
	}
	slices.Sort(found)
	return found
}

// forbids judges the last package on a road by the layer of the first.
func (l *layer) forbids(road []string) bool {
	last := road[len(road)-1]
	if name, mine := ours(last); mine {
		matches := func(pattern string) bool { return match(pattern, name) }
		return !slices.ContainsFunc(l.ours, matches) || slices.ContainsFunc(forTests, func(pattern string) bool {
			return matches(pattern) && !slices.Contains(l.ours, pattern)
		})
	}
	begins := func(prefix string) bool { return strings.HasPrefix(last, prefix) }
	return slices.ContainsFunc(l.never, begins) ||
		len(road) == 2 && slices.ContainsFunc(l.notDirectly, begins) ||
		l.standardOnly && !standard(last)
}

// roads returns a shortest chain of imports from a package to each package that
// it depends on.
func roads(graph imports, from string) [][]string {
	var all [][]string
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		road := queue[0]
		for _, next := range graph[road[len(road)-1]] {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clip(road), next)
			all, queue = append(all, longer), append(queue, longer)
		}
	}
	return all
}

func describe(road []string) string {
	names := make([]string, 0, len(road))
	for _, path := range road {
		name, _ := ours(path)
		names = append(names, name)
	}
	return strings.Join(names, " → ")
}

// ours strips the module from a path of ours, and says whether it is one.
func ours(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// standard tells the standard library, its vendored packages included, from
// modules: the first element of a module's path has a dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func layerOf(path string) (*layer, bool) {
	name, _ := ours(path)
	i := slices.IndexFunc(layers, func(l layer) bool { return match(l.packages, name) })
	if i < 0 {
		return nil, false
	}
	return &layers[i], true
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	folder, below := strings.CutSuffix(pattern, "/...")
	return name == folder || below && strings.HasPrefix(name, folder+"/")
}

// list asks the go command what every package of this module is built from,
// tests left out.
func list(tb testing.TB) imports {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		tb.Fatalf("go list: %v", err)
	}
	graph := imports{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			tb.Fatalf("go list: %v", err)
		}
		graph[p.ImportPath] = p.Imports
	}
}
