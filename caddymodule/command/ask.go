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

// agreed reports whether nobody is to be asked. If that is wanted, and cannot be done, it
// returns an error.
func agreed(cmd *cobra.Command, harmless bool) (bool, error) {
	yes, _ := cmd.Flags().GetBool("yes")
	if in, ok := cmd.InOrStdin().(*os.File); !yes && !harmless && (!ok || !term.IsTerminal(int(in.Fd()))) {
		return false, Usagef("not a terminal, so nobody can be asked: use --yes")
	}
	return yes, nil
}

// ask returns an error without a yes.
func ask(cmd *cobra.Command, keys int) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "Revoke %d key(s) for ever? [y/N] ", keys)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was revoked")
	}
	return nil
}

// terminal is where somebody can be asked while standard input holds the keys.
const terminal = "/dev/tty"

// askOnTerminal reports whether somebody says yes.
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
