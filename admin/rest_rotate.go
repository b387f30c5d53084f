package admin

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// The routes of a rotation, and of the calling key.
var (
	rotateRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodPost: RotateKey}),
		Only:  "a key is rotated here", NoBody: true, Produces: []string{MediaJSON},
	}
	rotateSelfRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodPost: rotateSelf}),
		Only:  "the calling key is rotated here", NoBody: true, Produces: []string{MediaJSON},
	}
	selfRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodGet: getSelf, http.MethodHead: getSelf}),
		Only:  "the calling key can be read here", Produces: []string{MediaJSON},
	}
)

// RotateInput is the body of a call that rotates a key. All members may be left out, and the
// body too. The durations are texts, as people write them.
type RotateInput struct {
	Grace    *string `json:"grace"`
	Deadline *string `json:"deadline"`
	Now      bool    `json:"now"`
}

// Options returns what the body says. The error names every wrong member.
func (i *RotateInput) Options() (RotateOptions, error) {
	options := RotateOptions{Now: i.Now}
	var errs [2]error
	options.Grace, errs[0] = parseWait("grace", i.Grace)
	options.Deadline, errs[1] = parseWait("deadline", i.Deadline)
	return options, errors.Join(errs[:]...)
}

// days is a number of days in a duration.
var days = regexp.MustCompile(`[0-9.]+d`)

// parseWait reads a duration as Caddy does, with d for 24 hours: 90m, 7d, 1d12h. Nil is zero. A
// text must be above zero.
func parseWait(field string, text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	inHours := days.ReplaceAllStringFunc(*text, func(days string) string {
		n, err := strconv.ParseFloat(strings.TrimSuffix(days, "d"), 64)
		if err != nil {
			return days
		}
		return strconv.FormatFloat(24*n, 'f', -1, 64) + "h"
	})
	wait, err := time.ParseDuration(inHours)
	if err != nil || wait <= 0 {
		return 0, &store.InvalidError{Field: field, Reason: "must be a duration such as 90m or 7d"}
	}
	return wait, nil
}

// RotateKey rotates a key as the JSON body says, if there is one. The answer shows the successor
// in clear, for the only time. It waits for keys that were ended at once: like the answer to a
// revocation, it must not come before that is true everywhere.
func RotateKey(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	if err := x.Service.mayRotate(x.Actor); err != nil {
		return err // before the body is read
	}
	return x.rotate(w, r, func(ctx context.Context, want RotateOptions) (*Rotation, error) {
		return x.Service.Rotate(ctx, x.Actor, x.ID, want)
	})
}

// rotateSelf is [RotateKey] for the calling key.
func rotateSelf(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	if err := x.Service.mayRotateSelf(x.Actor); err != nil {
		return err
	}
	return x.rotate(w, r, func(ctx context.Context, want RotateOptions) (*Rotation, error) {
		return x.Service.RotateSelf(ctx, x.Actor, want)
	})
}

// rotate reads the body, calls do, and answers with the successor.
func (x *Exchange) rotate(w http.ResponseWriter, r *http.Request, do func(context.Context, RotateOptions) (*Rotation, error)) error {
	body, err := ReadJSON(w, r, maxBody)
	if err != nil {
		return err
	}
	var input RotateInput
	if len(body) > 0 {
		if err := Decode(body, &input, "grace", "deadline", "now"); err != nil {
			return err
		}
	}
	want, err := input.Options()
	if err != nil {
		return err
	}
	ctx, cancel := Detached(r.Context())
	defer cancel()
	rotation, err := do(ctx, want)
	if err != nil {
		return err
	}
	if err := rotation.Wait(context.WithoutCancel(r.Context())); err != nil {
		return err
	}
	x.answerNewKey(w, rotation.Key, rotation.Plain)
	return nil
}

// answerNewKey answers with a key in clear, for the only time.
//
// Location names the new key (RFC 9110 section 15.3.2).
func (x *Exchange) answerNewKey(w http.ResponseWriter, key *store.Key, plain string) {
	shown, below := ShowKey(key), "/"+key.ID.String()
	shown.Key = plain
	w.Header().Set("Location", x.keysLink(below).Href)
	WriteJSON(w, http.StatusCreated, x.keyAnswer(shown, below))
}

// getSelf answers with the calling key.
func getSelf(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	ctx, cancel := Bounded(r.Context())
	defer cancel()
	key, err := x.Service.Self(ctx, x.Actor)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, x.keyAnswer(ShowKey(key), "/"+key.ID.String()))
	return nil
}
