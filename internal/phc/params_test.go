package phc_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

func TestTheDefaultIsWhatOWASPRecommends(t *testing.T) {
	t.Parallel()
	if got, want := phc.Default(), (phc.Params{Memory: 19456, Iterations: 2, Parallelism: 1}); got != want {
		t.Errorf("Default gave %+v, want %+v", got, want)
	}
	if err := phc.Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateKeepsTheBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		params phc.Params
		names  string // the parameter that the error names, or none
	}{
		"the least of everything":         {phc.Params{Memory: 8, Iterations: 1, Parallelism: 1}, ""},
		"the greatest of everything":      {phc.Params{Memory: 262144, Iterations: 10, Parallelism: 8}, ""},
		"just enough memory for 8 lanes":  {phc.Params{Memory: 64, Iterations: 1, Parallelism: 8}, ""},
		"too little memory for one lane":  {phc.Params{Memory: 7, Iterations: 1, Parallelism: 1}, "memory"},
		"too little memory for 8 lanes":   {phc.Params{Memory: 63, Iterations: 1, Parallelism: 8}, "memory"},
		"a KiB more than 256 MiB":         {phc.Params{Memory: 262145, Iterations: 1, Parallelism: 1}, "memory"},
		"all the memory there is":         {phc.Params{Memory: 1<<32 - 1, Iterations: 1, Parallelism: 1}, "memory"},
		"no memory":                       {phc.Params{Iterations: 1, Parallelism: 1}, "memory"},
		"no iterations":                   {phc.Params{Memory: 64, Parallelism: 1}, "iterations"},
		"too many iterations":             {phc.Params{Memory: 64, Iterations: 11, Parallelism: 1}, "iterations"},
		"no lanes":                        {phc.Params{Memory: 64, Iterations: 1}, "parallelism"},
		"too many lanes":                  {phc.Params{Memory: 1024, Iterations: 1, Parallelism: 9}, "parallelism"},
		"nothing at all":                  {phc.Params{}, "parallelism"},
		"RFC 9106's first recommendation": {phc.Params{Memory: 2 << 20, Iterations: 1, Parallelism: 4}, "memory"},
		"RFC 9106's second":               {phc.Params{Memory: 64 << 10, Iterations: 3, Parallelism: 4}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.params.Validate()
			switch {
			case c.names == "" && err != nil:
				t.Errorf("Validate gave %v", err)
			case c.names != "" && (!errors.Is(err, phc.ErrOutOfBounds) || !strings.HasPrefix(err.Error(), c.names+" ")):
				t.Errorf("Validate gave %v, want ErrOutOfBounds for %s", err, c.names)
			}
			if c.names == "" {
				return
			}
			if _, err := phc.Hash("key", c.params); !errors.Is(err, phc.ErrOutOfBounds) {
				t.Errorf("Hash gave %v, want ErrOutOfBounds", err)
			}
		})
	}
}

func TestWeakerMeansNoneHigherAndOneLower(t *testing.T) {
	t.Parallel()
	p := phc.Params{Memory: 1024, Iterations: 3, Parallelism: 2}
	for name, c := range map[string]struct {
		params phc.Params
		want   bool
	}{
		"the same":                         {p, false},
		"less memory":                      {phc.Params{Memory: 1023, Iterations: 3, Parallelism: 2}, true},
		"fewer iterations":                 {phc.Params{Memory: 1024, Iterations: 2, Parallelism: 2}, true},
		"fewer lanes":                      {phc.Params{Memory: 1024, Iterations: 3, Parallelism: 1}, true},
		"less of everything":               {phc.Params{Memory: 8, Iterations: 1, Parallelism: 1}, true},
		"more memory":                      {phc.Params{Memory: 1025, Iterations: 3, Parallelism: 2}, false},
		"more memory for fewer iterations": {phc.Params{Memory: 4096, Iterations: 1, Parallelism: 2}, false},
		"more lanes for less memory":       {phc.Params{Memory: 512, Iterations: 3, Parallelism: 4}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.params.WeakerThan(p); got != c.want {
				t.Errorf("WeakerThan gave %t", got)
			}
		})
	}
}

// Otherwise instances with different settings would rehash a key in turns.
func TestNoTwoAreWeakerThanEachOther(t *testing.T) {
	t.Parallel()
	draw := rapid.Custom(func(t *rapid.T) phc.Params {
		return phc.Params{
			Memory:      rapid.Uint32Range(8, 11).Draw(t, "memory"),
			Iterations:  rapid.Uint32Range(1, 3).Draw(t, "iterations"),
			Parallelism: rapid.Uint8Range(1, 3).Draw(t, "parallelism"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		p, q, r := draw.Draw(t, "p"), draw.Draw(t, "q"), draw.Draw(t, "r")
		if p.WeakerThan(q) && q.WeakerThan(p) {
			t.Fatalf("%+v and %+v are each weaker", p, q)
		}
		if p.WeakerThan(q) && q.WeakerThan(r) && !p.WeakerThan(r) {
			t.Fatalf("%+v, %+v, %+v: a step up led down", p, q, r)
		}
	})
}
