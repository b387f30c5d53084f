package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLabel is the length of the longest label, in characters (code points).
const MaxLabel = 100

// CleanLabel trims white space from both ends and checks what is left: 1 to
// [MaxLabel] characters of valid UTF-8 without control characters, line or
// paragraph separators, or marks that turn the direction of the text around
// them, and with one that can be seen (a label is shown to the admin who decides
// what to revoke). The error is an [*InvalidError] for the field "label".
func CleanLabel(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", &InvalidError{Field: "label", Reason: "must be valid UTF-8"}
	}
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "", &InvalidError{Field: "label", Reason: "must not be empty"}
	case n > MaxLabel:
		return "", &InvalidError{Field: "label", Reason: "must be at most 100 characters long"}
	}
	if strings.ContainsFunc(s, unprintable) {
		return "", &InvalidError{Field: "label", Reason: "must not contain control characters"}
	}
	if !strings.ContainsFunc(s, visible) {
		return "", &InvalidError{Field: "label", Reason: "must have a character that can be seen"}
	}
	return s, nil
}

// Characters of a visible kind that show nothing: BRAILLE PATTERN BLANK and MUSICAL
// SYMBOL NULL NOTEHEAD. Unicode lists the others as Default_Ignorable_Code_Point
// (DerivedCoreProperties.txt), letters such as HANGUL FILLER among them.
const (
	blankPattern = '\u2800'
	nullNotehead = '\U0001d159'
)

// visible reports whether a character shows by itself. Marks, spaces and formats
// do not.
func visible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && r != blankPattern && r != nullNotehead
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) || r == utf8.RuneError
}
