package command

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressLine is a line on a terminal that is written anew. Elsewhere it writes nothing.
type progressLine struct {
	out     io.Writer // nil if it is no terminal
	now     func() time.Time
	printed time.Time
	shown   bool
}

// lineEvery is how often the line is written.
const lineEvery = 200 * time.Millisecond

func newProgressLine(out io.Writer, now func() time.Time) *progressLine {
	if file, ok := out.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		out = nil
	}
	return &progressLine{out: out, now: now}
}

// show writes the line.
func (p *progressLine) show(text string) {
	if p.out == nil || p.now().Sub(p.printed) < lineEvery {
		return
	}
	p.printed, p.shown = p.now(), true
	fmt.Fprint(p.out, "\r", text)
}

// clear removes the line, so that something else can be printed in its place.
func (p *progressLine) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.out, "\r\033[K")
	}
}
