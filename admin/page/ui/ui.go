// Package ui draws the System page: templates, translations and assets, all part of
// the program. It decides nothing. Its caller says what an admin may see and do.
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
	base   string // as a browser sees it
	assets map[string]*asset
	pages  map[Language]*template.Template
}

// New prepares the pages below base, a path without a slash at the end, such as
// "/system". Mount is what a browser has in front of every path, such as "/lumio", or empty.
func New(mount, base string) *UI {
	u := &UI{base: mount + base, assets: loadAssets(), pages: make(map[Language]*template.Template)}
	for _, language := range Languages {
		words := translations[language]
		u.pages[language] = template.Must(template.New("").Funcs(template.FuncMap{
			"t":      words.say,
			"moment": words.moment,
			"path":   func(below string) string { return u.base + below },
			"api":    func() string { return mount + "/api/system-keys" },
			"asset":  u.assetPath,
			"card":   func(now time.Time, card any) cardView { return cardView{now, card} },
			"others": func() []Language { return language.others() },
		}).ParseFS(templates, "templates/*.html"))
	}
	return u
}

// Body is the content of a page. Each kind has a template, which can also be drawn as
// a fragment.
type Body interface {
	// template is the name of the template.
	template() string
	// title is the key of the page's title.
	title() string
}

// Frame is what surrounds the body.
type Frame struct {
	Language Language
	// Who is the label of the admin who is signed in, or empty.
	Who string
	// SignOut is the nonce of the sign-out form. It is empty if there is no session.
	SignOut string
	Now     time.Time
}

// view is the data of a template.
type view struct {
	Frame
	Title string
	Body  Body
	// Inner is the body drawn, for the template of the whole page.
	Inner template.HTML
}

// cardView is the data of a card's template.
type cardView struct {
	Now  time.Time
	Card any
}

// Page writes a whole page. The error is the one of w.
func (u *UI) Page(w io.Writer, frame Frame, body Body) error {
	v := view{Frame: frame, Title: body.title(), Body: body}
	// Drawn by the same templates: it is escaped already.
	v.Inner = template.HTML(u.draw(body.template(), v)) //nolint:gosec // see above
	_, err := w.Write(u.draw("frame", v))
	return err
}

// Fragment writes the body alone, to be put into an open page. The error is the one of
// w.
func (u *UI) Fragment(w io.Writer, frame Frame, body Body) error {
	_, err := w.Write(u.draw(body.template(), view{Frame: frame, Title: body.title(), Body: body}))
	return err
}

// draw executes a template. It panics if the template is wrong.
func (u *UI) draw(name string, v view) []byte {
	var b bytes.Buffer
	if err := u.pages[v.Language].ExecuteTemplate(&b, name, v); err != nil {
		panic(fmt.Errorf("draw %s: %w", name, err))
	}
	return b.Bytes()
}
