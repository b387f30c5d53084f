// Package ui draws the System page: templates, translations and assets, all part
// of the program. It decides nothing: what may be seen and done is for its caller
// to say.
package ui
