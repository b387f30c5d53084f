package graphql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/nesting"
)

// Bounds of a document. They are far above what a dashboard needs. A document that is
// handed on keeps to them too.
const (
	// The parser counts tokens, [depthOf] the brackets, and [document.walk] the rest.
	maxTokens     = 20_000
	maxNesting    = nesting.Max
	maxAliases    = 10
	maxRootFields = 10
	maxSelections = 2000
	maxDepth      = 15 // introspection, as tools write it, has 13
)

// ourFields are the root fields that are answered here. They begin with admin, so that they do
// not meet those of another schema. A field of schema.graphql that is missing here would be
// handed on.
var ourFields = map[string]bool{
	"adminSystemKeys": true, "adminSystemKeyActivity": true, "adminAuditLog": true, "adminCreateSystemKey": true, "adminDeleteSystemKey": true,
	"adminDeleteSystemKeys": true, "adminRotateSystemKey": true,
}

// document counts what a GraphQL document asks for, with its fragments expanded. All its
// operations count, whichever of them the request names: a server that reads the name in another
// way executes nothing that was not seen. Directives such as @skip do not count either: a field
// that may be left out is there.
type document struct {
	// ours counts the root fields that are answered here, others those of another
	// schema, and meta those of introspection.
	ours, others, meta int
	// other is the first of the others, for a message.
	other string

	selections int
	// aliases are those of the operation that is being walked.
	aliases   int
	fragments ast.FragmentDefinitionList
}

// analyse reads a document. A document must hold an operation, and every fragment that its
// operations use. Which operation is meant is known when it is executed. The error is a refusal.
// The cost is bounded: by the brackets before the document is parsed, by the tokens while it is
// parsed, and by the selections afterwards.
//
// A document of another server keeps to the same bounds. Otherwise a client could hide a field
// of ours behind more than is looked at.
func analyse(query string) (*document, error) {
	if depthOf(query) > maxNesting {
		return nil, admin.BadRequest(fmt.Sprintf("the document is nested more than %d deep", maxNesting))
	}
	// The schema is not needed: a document of another server is read too.
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: query}, maxTokens)
	if err != nil {
		return nil, admin.BadRequest("malformed document: " + err.Error())
	}
	if len(parsed.Operations) == 0 {
		return nil, admin.BadRequest("a document must hold an operation")
	}
	// Servers differ in which of two fragments with one name counts.
	seen := make(map[string]bool)
	for _, fragment := range parsed.Fragments {
		if seen[fragment.Name] {
			return nil, admin.BadRequest(fmt.Sprintf("there are two fragments %.100q", fragment.Name))
		}
		seen[fragment.Name] = true
	}
	d := &document{fragments: parsed.Fragments}
	for _, operation := range parsed.Operations {
		before := d.roots()
		// Only one operation is executed, so each has its own aliases and root fields.
		d.aliases = 0
		if err := d.walk(operation.SelectionSet, 1, nil); err != nil {
			return nil, err
		}
		if d.roots()-before > maxRootFields {
			return nil, admin.BadRequest(fmt.Sprintf("an operation may have %d root fields at most", maxRootFields))
		}
	}
	return d, nil
}

// roots counts the root fields.
//
// Introspection counts as well: it costs the server work like any field.
func (d *document) roots() int { return d.ours + d.others + d.meta }

// walk looks at all selections. depth is the depth of fields. open are the fragments that are
// being expanded. It calls itself for each level, and ends at the first bound that is passed.
func (d *document) walk(set ast.SelectionSet, depth int, open []string) error {
	for _, selection := range set {
		if d.selections++; d.selections > maxSelections {
			return admin.BadRequest(fmt.Sprintf("a document may have %d selections at most", maxSelections))
		}
		var err error
		switch s := selection.(type) {
		case *ast.Field:
			err = d.field(s, depth, open)
		case *ast.InlineFragment:
			err = d.walk(s.SelectionSet, depth, open)
		case *ast.FragmentSpread:
			err = d.spread(s, depth, open)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field counts a field, and walks what is selected below it. An alias makes the server answer a
// field once more, so aliases are bounded apart.
func (d *document) field(f *ast.Field, depth int, open []string) error {
	if depth > maxDepth {
		return admin.BadRequest(fmt.Sprintf("a document may be %d fields deep at most", maxDepth))
	}
	// Without an alias the parser gives a field its own name as one.
	if f.Alias != f.Name {
		if d.aliases++; d.aliases > maxAliases {
			return admin.BadRequest(fmt.Sprintf("an operation may have %d aliases at most", maxAliases))
		}
	}
	// Fields of fragments at the top count as root fields, as they are executed as such.
	if depth == 1 {
		switch {
		case ourFields[f.Name]:
			d.ours++
		case strings.HasPrefix(f.Name, "__"):
			d.meta++
		default:
			if d.others++; d.other == "" {
				d.other = f.Name
			}
		}
	}
	return d.walk(f.SelectionSet, depth+1, open)
}

// spread walks a fragment in the place where it is used. So what a fragment costs counts at each
// use: fragments that use each other twice at each level would grow without a bound. One that
// contains itself has no end (GraphQL specification, section 5.5.2.2).
func (d *document) spread(s *ast.FragmentSpread, depth int, open []string) error {
	if slices.Contains(open, s.Name) {
		return admin.BadRequest(fmt.Sprintf("the fragment %.100q contains itself", s.Name))
	}
	fragment := d.fragments.ForName(s.Name)
	if fragment == nil {
		return admin.BadRequest(fmt.Sprintf("there is no fragment %.100q", s.Name))
	}
	return d.walk(fragment.SelectionSet, depth, append(slices.Clip(open), s.Name))
}

// depthOf is how deep the brackets of a document are nested, outside of strings and
// comments. The parsers call themselves for each level, so this is checked first.
//
// Brackets that do not match are no matter here: the parser refuses them.
func depthOf(query string) int {
	depth, deepest := 0, 0
	for i := 0; i < len(query); i++ {
		switch query[i] {
		case '{', '[', '(':
			depth++
			deepest = max(deepest, depth)
		case '}', ']', ')':
			depth--
		case '#':
			if end := strings.IndexAny(query[i:], "\r\n"); end >= 0 {
				i += end
			} else {
				return deepest
			}
		case '"':
			i += stringLength(query[i:]) - 1
		}
	}
	return deepest
}

// stringLength is the length of the string or block string at the start of s. A string ends at
// the end of its line; a block string does not. One without an end reaches to the end of s.
func stringLength(s string) int {
	if strings.HasPrefix(s, `"""`) {
		for i := 3; i < len(s); i++ {
			switch {
			case strings.HasPrefix(s[i:], `\"""`):
				i += 3
			case strings.HasPrefix(s[i:], `"""`):
				return i + 3
			}
		}
		return len(s)
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"', '\n', '\r':
			return i + 1
		}
	}
	return len(s)
}
