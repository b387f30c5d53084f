package match

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types/ref"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// celFunction is the name to which the macro system_key expands.
const celFunction = "system_key_request_map"

// CELLibrary implements [caddyhttp.CELLibraryProducer]. Example:
//
//	expression system_key({'permission': 'bots:write'})
func (*SystemKey) CELLibrary(ctx caddy.Context) (cel.Library, error) {
	library, err := caddyhttp.CELMatcherImpl(
		"system_key", celFunction, []*cel.Type{caddyhttp.CELTypeJSON},
		func(data ref.Val) (caddyhttp.RequestMatcherWithError, error) {
			values, err := caddyhttp.CELValueToMapStrList(data)
			if err != nil {
				return nil, err
			}
			m := new(SystemKey)
			for name, list := range values {
				switch name {
				case "permission":
					m.Permission = list
				case "any_permission":
					m.AnyPermission = list
				case "id":
					m.ID = list
				case "label":
					m.Label = list
				default:
					return nil, fmt.Errorf("system_key: unrecognized field %q", name)
				}
			}
			return m, m.Provision(ctx)
		},
	)
	if err != nil {
		return nil, err
	}
	options := append(library.CompileOptions(), cel.ASTValidators(onceInCEL{}))
	return caddyhttp.NewMatcherCELLibrary(options, library.ProgramOptions()), nil
}

// onceInCEL refuses a field that is there twice. CEL itself would take the last one, and
// forget what the others ask for.
type onceInCEL struct{}

func (onceInCEL) Name() string { return "system_keys.once" }

// Validate implements [cel.ASTValidator].
func (onceInCEL) Validate(_ *cel.Env, _ cel.ValidatorConfig, expression *ast.AST, issues *cel.Issues) {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(expression), ast.FunctionMatcher(celFunction)) {
		seen := make(map[string]bool)
		for _, entry := range call.AsCall().Args()[1].AsMap().Entries() {
			key := entry.AsMapEntry().Key()
			if key.Kind() != ast.LiteralKind {
				continue
			}
			name, _ := key.AsLiteral().Value().(string)
			if seen[name] {
				issues.ReportErrorAtID(entry.ID(), "system_key: %q is there twice", name)
			}
			seen[name] = true
		}
	}
}

// Interface guard.
var _ caddyhttp.CELLibraryProducer = (*SystemKey)(nil)
