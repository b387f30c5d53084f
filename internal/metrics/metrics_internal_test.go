package metrics

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// TestEveryReasonIsCounted has the constants of package gate from its source.
func TestEveryReasonIsCounted(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../gate/decision.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	for _, declaration := range file.Decls {
		if d, ok := declaration.(*ast.GenDecl); ok && d.Tok == token.CONST {
			declared += len(d.Specs)
		}
	}
	counted := make(map[gate.Reason]bool)
	for _, all := range reasons {
		for _, reason := range all {
			if reason == "" || counted[reason] {
				t.Errorf("the reason %q is twice", reason)
			}
			counted[reason] = true
		}
	}
	if len(counted) != declared || len(New(nil, nil).decisions) != declared {
		t.Errorf("%d reasons are declared, %d are counted", declared, len(counted))
	}
}

func TestToCountAGoodKeyDoesNotAllocate(t *testing.T) {
	m := New(nil, nil)
	if n := testing.AllocsPerRun(100, func() { m.Decided(gate.AllowedKey) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
