// Package ui draws the System page: templates, translations and assets, all part
// of the program. It decides nothing: what may be seen and done is for its caller
// to say.
package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed templates/*.html
var templates embed.FS

// UI draws pages below one path. It is safe for concurrent use.
type UI struct {
	base   string
	assets map[string]*asset
	pages  map[Language]*template.Template
}

// New prepares the pages below base, a path without a slash at the end, such as
// "/system".
func New(base string) *UI {
	u := &UI{base: base, assets: loadAssets(), pages: make(map[Language]*template.Template)}
	for _, language := range Languages {
		words := translations[language]
		u.pages[language] = template.Must(template.New("").Funcs(template.FuncMap{
			"t":      words.say,
			"moment": words.moment,
			"path":   func(below string) string { return base + below },
			"asset":  u.assetPath,
			"card":   func(v view, card any) cardView { return cardView{v.Now, card} },
			"others": func() []Language { return language.others() },
		}).ParseFS(templates, "templates/*.html"))
	}
	return u
}

// Body is what a page shows. Each kind has a template, and so stands for itself as
// a fragment of a page.
type Body interface {
	// template is the name of the template.
	template() string
	// title is the key of the page's title.
	title() string
}

// Frame is what is around the body.
type Frame struct {
	Language Language
	// Who is signed in. Empty: nobody.
	Who string
	// SignOut is a nonce for it; empty for who has nothing to sign out of.
	SignOut string
	Now     time.Time
}

// view is what a template gets.
type view struct {
	Frame
	Title string
	Body  Body
	// Inner is the body drawn, for the template of the whole page.
	Inner template.HTML
}

// cardView is what the template of a card gets.
type cardView struct {
	Now  time.Time
	Card any
}

// Page writes a whole page. The error is that of w.
func (u *UI) Page(w io.Writer, frame Frame, body Body) error {
	v := view{Frame: frame, Title: body.title(), Body: body}
	// Drawn by the same templates: it is escaped already.
	v.Inner = template.HTML(u.draw(body.template(), v)) //nolint:gosec // see above
	_, err := w.Write(u.draw("frame", v))
	return err
}

// Fragment writes the body alone, to be put into a page that is there. The error
// is that of w.
func (u *UI) Fragment(w io.Writer, frame Frame, body Body) error {
	_, err := w.Write(u.draw(body.template(), view{Frame: frame, Title: body.title(), Body: body}))
	return err
}

// draw executes a template. That it fails is a mistake in the template.
func (u *UI) draw(name string, v view) []byte {
	var b bytes.Buffer
	if err := u.pages[v.Language].ExecuteTemplate(&b, name, v); err != nil {
		panic(fmt.Errorf("draw %s: %w", name, err))
	}
	return b.Bytes()
}
