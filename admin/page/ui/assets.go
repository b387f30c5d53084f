package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed assets/*
var assetFiles embed.FS

// asset is a file that the pages refer to, plain and in gzip.
type asset struct {
	name       string // with a digest of the content in it
	mediaType  string
	text, gzip []byte
}

var mediaTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// loadAssets reads the assets, by the names that the templates use.
var loadAssets = sync.OnceValue(func() map[string]*asset {
	entries, err := assetFiles.ReadDir("assets")
	if err != nil { // is part of the program
		panic(err)
	}
	all := make(map[string]*asset)
	for _, entry := range entries {
		text, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			panic(err)
		}
		digest := sha256.Sum256(text)
		stem, extension, _ := strings.Cut(entry.Name(), ".")
		all[entry.Name()] = &asset{
			name:      stem + "." + hex.EncodeToString(digest[:6]) + "." + extension,
			mediaType: mediaTypes[path.Ext(entry.Name())],
			text:      text, gzip: compressed(text),
		}
	}
	return all
})

// compressed is a text in gzip. It is made once and sent often, so it is made small.
func compressed(text []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil { // the level is one
		panic(err)
	}
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// assetPath is the path of an asset, for templates.
func (u *UI) assetPath(name string) (string, error) {
	a, ok := u.assets[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return u.base + "/assets/" + a.name, nil
}

// Asset answers with the asset of a name, and reports whether there is one. The name
// changes with the content, so that a cache can keep it for ever (RFC 8246).
func (u *UI) Asset(w http.ResponseWriter, r *http.Request, name string) bool {
	for _, a := range u.assets {
		if a.name != name {
			continue
		}
		text := a.text
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			text = a.gzip
		}
		w.Header().Set("Content-Type", a.mediaType)
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		_, _ = w.Write(text) // the client is gone if this fails
		return true
	}
	return false
}
