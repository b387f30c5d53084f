package ui

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/text/language"
)

// Language is one in which the page speaks.
type Language string

// The languages.
const (
	English Language = "en"
	German  Language = "de"
)

// Languages are all of them, the one for who has no preference first.
var Languages = []Language{English, German}

// Name is what the language calls itself.
func (l Language) Name() string {
	return map[Language]string{English: "English", German: "Deutsch"}[l]
}

func (l Language) others() []Language {
	return slices.DeleteFunc(slices.Clone(Languages), func(o Language) bool { return o == l })
}

var matcher = language.NewMatcher([]language.Tag{language.English, language.German})

// Choose returns the language that was chosen, or else the one that fits the
// field Accept-Language best (RFC 9110, section 12.5.4).
func Choose(chosen, accept string) Language {
	if l := Language(chosen); slices.Contains(Languages, l) {
		return l
	}
	_, index := language.MatchStrings(matcher, accept)
	return Languages[index]
}

//go:embed translations/*.json
var translationFiles embed.FS

// words are the texts of a language by their keys.
type words map[string]string

var translations = loadTranslations()

func loadTranslations() map[Language]words {
	all := make(map[Language]words)
	for _, l := range Languages {
		b, err := translationFiles.ReadFile("translations/" + string(l) + ".json")
		if err != nil { // is part of the program
			panic(err)
		}
		var w words
		if err := json.Unmarshal(b, &w); err != nil {
			panic(fmt.Errorf("translations of %s: %w", l, err))
		}
		all[l] = w
	}
	return all
}

// say returns the text of a key, with the arguments in place; the one for one, if
// there is one and the last argument is the number 1. A test holds that every
// language has every key.
func (w words) say(key string, args ...any) (string, error) {
	if one := key + ".one"; len(args) > 0 && args[len(args)-1] == 1 && w.has(one) {
		key = one
	}
	text, ok := w[key]
	if !ok {
		return "", fmt.Errorf("there is no text %q", key)
	}
	if len(args) == 0 {
		return text, nil
	}
	return fmt.Sprintf(text, args...), nil
}

func (w words) has(key string) bool { _, ok := w[key]; return ok }
