package command

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressLine is a line on a terminal that is written anew. Elsewhere it writes nothing: a log
// of a CI job would have thousands of such lines. Its text must not get shorter from one show to
// the next, or the end of the longer one stays. It is not safe for concurrent use.
type progressLine struct {
	out     io.Writer // nil if it is no terminal
	now     func() time.Time
	printed time.Time
	shown   bool
}

// lineEvery is how often the line is written at most. More often nobody could read it.
const lineEvery = 200 * time.Millisecond

// newProgressLine makes a line that is written to out, if that is a terminal.
//
// Out is standard error, so the line is seen while standard output goes to a file.
func newProgressLine(out io.Writer, now func() time.Time) *progressLine {
	if file, ok := out.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		out = nil
	}
	return &progressLine{out: out, now: now}
}

// show writes the line, unless it was written a moment ago. The text is then dropped.
func (p *progressLine) show(text string) {
	if p.out == nil || p.now().Sub(p.printed) < lineEvery {
		return
	}
	p.printed, p.shown = p.now(), true
	fmt.Fprint(p.out, "\r", text)
}

// clear removes the line, so that something else can be printed in its place. Call it before any
// other output to the terminal, and at the end. The escape sequence erases to the end of the
// line (ECMA-48, EL).
func (p *progressLine) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.out, "\r\033[K")
	}
}
