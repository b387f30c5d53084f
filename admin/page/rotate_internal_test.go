package page

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAFormThatComesLateIsNoUseOfTheSuccessor tells an admin whether the successor is in use, or
// only another form was quicker.
func TestAFormThatComesLateIsNoUseOfTheSuccessor(t *testing.T) {
	t.Parallel()
	for inUse, want := range map[bool]string{true: "used", false: "meanwhile"} {
		err := fmt.Errorf("rotate key: %w", &store.ReplacedError{By: store.ID{1}, InUse: inUse})
		if got := rotateError(err, http.StatusConflict); got != want {
			t.Errorf("in use %v: the text is %q, want %q", inUse, got, want)
		}
	}
}
