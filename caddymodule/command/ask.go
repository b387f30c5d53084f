package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// agreed reports whether nobody is to be asked, since --yes is there. If somebody is to be
// asked, and standard input is no terminal, it returns an error of wrong usage: a script would
// wait for ever, or the next line of its input would be taken for the answer. A harmless call
// changes nothing, so it never fails here.
func agreed(cmd *cobra.Command, harmless bool) (bool, error) {
	yes, _ := cmd.Flags().GetBool("yes")
	if in, ok := cmd.InOrStdin().(*os.File); !yes && !harmless && (!ok || !term.IsTerminal(int(in.Fd()))) {
		return false, Usagef("not a terminal, so nobody can be asked: use --yes")
	}
	return yes, nil
}

// ask asks whether to revoke so many keys. Without a yes it returns an error, so the command
// ends with status 1 and a script does not go on. An empty line means no. So does the end of the
// input.
func ask(cmd *cobra.Command, keys int) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "Revoke %d key(s) for ever? [y/N] ", keys)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was revoked")
	}
	return nil
}

// terminal is where somebody can be asked while standard input holds the keys, which is at its
// end by then. POSIX names it: the controlling terminal of the process (Base Definitions,
// section 10.1). Windows has none.
const terminal = "/dev/tty"

// askOnTerminal reports whether somebody says yes on the [terminal]. Without a terminal nobody
// does.
func askOnTerminal(out io.Writer) bool {
	in, err := os.Open(terminal)
	if err != nil {
		return false
	}
	defer func() { _ = in.Close() }() // it was only read
	fmt.Fprint(out, "Go on? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
