package command

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestAnErrorPrintsNothingThatATerminalObeys has a server say what a terminal would obey. The
// lines of several errors stay lines.
func TestAnErrorPrintsNothingThatATerminalObeys(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	cmd := new(cobra.Command)
	cmd.SetErr(&out)
	said := errors.Join(errors.New("the server says \x1b[2Kfine"), errors.New("and more\r"))
	if err := report(cmd, said); !errors.Is(err, said) {
		t.Errorf("report = %v", err)
	}
	if want := "Error: the server says �[2Kfine\nand more�\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
