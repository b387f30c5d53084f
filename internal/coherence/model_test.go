package coherence_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// check is a search of the model of docs/protocol.
type check struct {
	name    string
	without []string // macros of the model that leave something out
	revs    string   // entries that the log can have
	// property is a formula of the model, or none for the assertions.
	property string
	fault    string // macro that seeds a fault; none for the protocol itself
	long     bool   // searched where the environment has SOAK=1
}

// What the checks leave out. The long ones have any two of the four together, and
// each fault has to be found where it can do harm.
var (
	requests = []string{"NO_REAPER", "NO_RESTORE", "NO_AROUND"}
	members  = []string{"ATOMIC_REQUESTS", "NO_RESTORE", "NO_AROUND"}
	failover = []string{"FAILOVER", "ATOMIC_REQUESTS", "NO_REAPER", "NO_RESTORE", "NO_AROUND"}
	restores = []string{"ATOMIC_REQUESTS", "NO_REAPER", "NO_AROUND"}
	pages    = []string{"ATOMIC_REQUESTS", "NO_REAPER", "NO_RESTORE"}
)

var checks = []check{
	{name: "requests", without: requests, revs: "2"},
	{name: "members", without: members, revs: "2"},
	{name: "failover", without: failover, revs: "2"},
	{name: "rows deleted around the triggers", without: pages, revs: "2"},
	{name: "answers", without: pages, revs: "2", property: "answers"},
	{name: "returns", without: pages, revs: "2", property: "returns"},

	{name: "restored backups", without: restores, revs: "2", long: true},
	{name: "failover and requests", without: []string{"FAILOVER", "NO_REAPER", "NO_RESTORE", "NO_AROUND"}, revs: "2", long: true},
	{name: "requests, long log", without: requests, revs: "3", long: true},
	{name: "members, long log", without: members, revs: "3", long: true},
	{name: "members and restored backups", without: []string{"ATOMIC_REQUESTS", "NO_STRAY", "NO_AROUND"}, revs: "2", long: true},
	{name: "requests and restored backups", without: []string{"NO_REAPER", "NO_STRAY", "NO_AROUND"}, revs: "2", long: true},
	{name: "requests and members", without: []string{"NO_RESTORE", "NO_AROUND"}, revs: "2", long: true},
	{name: "answers, members", without: members, revs: "2", property: "answers", long: true},
	{name: "returns, members", without: members, revs: "2", property: "returns", long: true},
	{name: "answers, restored backups", without: restores, revs: "2", property: "answers", long: true},
	{name: "returns, restored backups", without: restores, revs: "2", property: "returns", long: true},

	{fault: "FAULT_LEASE_IGNORED", without: requests, revs: "2"},
	{fault: "FAULT_LEASE_FROM_ANSWER", without: pages, revs: "2"},
	{fault: "FAULT_LEASE_LONGER", without: pages, revs: "2"},
	{fault: "FAULT_EXTEND_BEFORE_APPLY", without: pages, revs: "2"},
	{fault: "FAULT_EXTEND_BEFORE_HEAD", without: pages, revs: "3"},
	{fault: "FAULT_ACK_BEFORE_APPLY", without: pages, revs: "2"},
	{fault: "FAULT_NO_GENERATION", without: requests, revs: "2"},
	{fault: "FAULT_STANDBY_READ", without: requests, revs: "2"},
	{fault: "FAULT_PLACE_UNASKED", without: failover, revs: "2"},
	{fault: "FAULT_PLACE_NOTED_LATE", without: failover, revs: "2"},
	{fault: "FAULT_CHECK_BEFORE_ENTERING", without: requests, revs: "2"},
	{fault: "FAULT_FLUSH_KEEPS_FLIGHTS", without: restores, revs: "2"},
	{fault: "FAULT_CURSOR_FIRST", without: pages, revs: "2"},
	{fault: "FAULT_PLAIN_SEQUENCE", without: pages, revs: "2"},
	{fault: "FAULT_NO_WAIT", without: pages, revs: "2"},
	{fault: "FAULT_SHORT_WAIT", without: pages, revs: "2"},
	{fault: "FAULT_GONE_UNAWAITED", without: pages, revs: "2"},
	{fault: "FAULT_GONE_UNLOGGED", without: pages, revs: "2"},
	{fault: "FAULT_INSERT_UNLOGGED", without: append(restores, "NO_STRAY"), revs: "2"},
	{fault: "FAULT_EVICTION_IGNORED", without: members, revs: "2"},
	{fault: "FAULT_REAP_BLIND", without: members, revs: "2"},
	{fault: "FAULT_REAP_CLOCK_EARLY", without: members, revs: "2"},
	{fault: "FAULT_NO_TAG", without: restores, revs: "2"},
	{fault: "FAULT_ACK_FOREIGN", without: restores, revs: "2"},
	{fault: "FAULT_RESTORE_UNNOTICED", without: restores, revs: "2"},
	{fault: "STALL_WAIT_FOR_ACK_ONLY", without: pages, revs: "2", property: "answers"},
	{fault: "STALL_PLACE_KEPT", without: pages, revs: "2", property: "returns"},
}

// TestModel has spin search all runs of the protocol's model, and has it find
// every fault that can be seeded there.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, c := range checks {
		if c.long && os.Getenv("SOAK") != "1" {
			continue
		}
		t.Run(c.name+c.fault, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

// TestModelFaults holds the table against the model: no fault is left out.
func TestModelFaults(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(modelFile)
	if err != nil {
		t.Fatal(err)
	}
	seeded := make(map[string]bool)
	for _, c := range checks {
		seeded[c.fault] = true
	}
	for _, m := range regexp.MustCompile(`#ifn?def ((?:FAULT|STALL)_\w+)`).FindAllSubmatch(source, -1) {
		if !seeded[string(m[1])] {
			t.Errorf("no check seeds %s", m[1])
		}
	}
}

// TestModelDocumentation holds the page about the protocol against both: it names
// every fault, and no test that is not there.
func TestModelDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/protocol/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		_, name, _ := strings.Cut(c.fault, "FAULT_")
		if c.fault != "" && !strings.Contains(string(page), "`"+cmp.Or(name, c.fault)+"`") {
			t.Errorf("the page does not name %s", c.fault)
		}
	}
	var tests strings.Builder
	for _, folder := range []string{".", "../verify", "../../admin", "../../store/postgres", "../../store/sqlite", "../../integration/fleet"} {
		files, err := filepath.Glob(folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = tests.Write(source)
		}
	}
	for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(tests.String(), "func "+name[1]+"(") {
			t.Errorf("the page names %s, which is no test", name[1])
		}
	}
}

const modelFile = "../../docs/protocol/revocation.pml"

var searched = regexp.MustCompile(`errors: (\d+)`)

func (c *check) check(t *testing.T) {
	t.Helper()
	model, err := filepath.Abs(modelFile)
	if err != nil {
		t.Fatal(err)
	}
	generate := []string{"-a", "-DREVS=" + c.revs}
	for _, macro := range append(c.without, c.fault) {
		if macro != "" {
			generate = append(generate, "-D"+macro)
		}
	}
	compile := []string{"-O2", "-DCOLLAPSE", "-DNOBOUNDCHECK", "-o", "pan", "pan.c"}
	search := []string{"-n", "-m2000000"}
	if c.fault != "" { // it is near: most of the time would go into the compiler and into empty memory
		compile, search = append(compile, "-O0"), []string{"-n", "-m20000", "-w20"}
	}
	if c.property != "" {
		generate = append(generate, "-DLIVENESS")
		compile = append(compile, "-DNFAIR=3")
		search = append(search, "-a", "-f", "-N", c.property) // each process that can act does, in the end
	} else if compile = append(compile, "-DSAFETY"); c.fault != "" {
		compile = append(compile, "-DREVERSE", "-DT_REVERSE") // the last choices first, which is shorter
	}
	folder := t.TempDir()
	runIn(t, folder, "spin", append(generate, model)...)
	runIn(t, folder, "gcc", compile...)
	out := runIn(t, folder, "./pan", search...)
	found := searched.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("the search has no result:\n%s", out)
	}
	if c.fault != "" {
		if found[1] == "0" {
			t.Errorf("the fault was not found:\n%s", out)
		}
		return
	}
	if found[1] != "0" {
		t.Errorf("the model has an error:\n%s", out)
	}
	for _, partial := range []string{"search depth too small", "Search not completed", "out of memory"} {
		if strings.Contains(out, partial) {
			t.Errorf("the search was not exhaustive:\n%s", out)
		}
	}
	t.Log(regexp.MustCompile(`.*states, stored.*`).FindString(out))
}

func runIn(t *testing.T, folder, name string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Dir = folder
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
