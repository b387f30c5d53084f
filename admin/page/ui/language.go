package ui

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/text/language"
)

// Language is a language of the page.
type Language string

// The languages.
const (
	English Language = "en"
	German  Language = "de"
)

// Languages are all languages. The first is for a browser without a preference.
var Languages = []Language{English, German}

// Name is what the language calls itself.
func (l Language) Name() string {
	return map[Language]string{English: "English", German: "Deutsch"}[l]
}

// others are the languages that the page offers in place of this one.
func (l Language) others() []Language {
	return slices.DeleteFunc(slices.Clone(Languages), func(o Language) bool { return o == l })
}

var matcher = language.NewMatcher([]language.Tag{language.English, language.German})

// Choose returns the chosen language, or else the best match for the field
// Accept-Language (RFC 9110, section 12.5.4).
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

// loadTranslations reads the texts of all languages. It panics if a file is wrong.
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

// say returns the text of a key, with the arguments in place. If the last argument is
// the number 1, it prefers the text for one. A test holds that every language has
// every key.
func (w words) say(key string, args ...any) (string, error) {
	if len(args) > 0 && args[len(args)-1] == 1 && w[key+".one"] != "" {
		key += ".one"
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

// Moment is a time as it is shown.
type Moment struct {
	// ISO is for programs. Relative is for people, and Exact for people who want to
	// know more.
	ISO, Exact, Relative string
	// Past says that the time is over, and Soon that it will be within [SoonDays].
	Past, Soon bool
}

// SoonDays is what "soon" means.
const SoonDays = 7

// unit is a unit of relative times. It is used from a distance of least on.
type unit struct {
	name        string
	size, least time.Duration
}

const day = 24 * time.Hour

// The units of the past and of the future, the largest first. What lies ahead is to be
// planned for, so it is told in days however many they are.
var (
	unitsAgo = []unit{
		{"year", 365 * day, 365 * day},
		{"month", 30 * day, 30 * day},
		{"day", day, day},
		{"hour", time.Hour, time.Hour},
		{"minute", time.Minute, time.Minute},
		{"second", time.Second, 0},
	}
	unitsAhead = []unit{
		{"day", day, 2*day - justNow},
		{"hour", time.Hour, time.Hour - justNow},
		{"minute", time.Minute, time.Minute - justNow},
		{"second", time.Second, 0},
	}
)

// justNow is the distance below which seconds are not counted.
const justNow = 10 * time.Second

// moment shows a time relative to now.
func (w words) moment(now, at time.Time) (Moment, error) {
	at = at.UTC()
	m := Moment{ISO: at.Format(time.RFC3339), Exact: at.Format("2006-01-02 15:04:05 UTC"), Past: !at.After(now)}
	distance, direction, units := now.Sub(at), "ago", unitsAgo
	if distance < 0 {
		distance, direction, units = -distance, "in", unitsAhead
		m.Soon = distance <= SoonDays*day
	}
	var err error
	if distance < justNow {
		m.Relative, err = w.say("time.now")
		return m, err
	}
	for _, unit := range units {
		if distance >= unit.least {
			n := int(distance / unit.size)
			if direction == "in" { // a key for 90 days has 90 days a moment later too
				n = int((distance + unit.size/2) / unit.size)
			}
			number := "many"
			if n == 1 {
				number = "one"
			}
			m.Relative, err = w.say(fmt.Sprintf("time.%s.%s.%s", direction, unit.name, number), n)
			return m, err
		}
	}
	return m, err
}
