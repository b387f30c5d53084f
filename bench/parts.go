package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// part is a part of the table.
type part struct {
	name    string
	measure func(ctx context.Context, r *run) ([]row, error)
}

var parts = []part{
	{"requests", requests},
	{"check", check},
	{"cold", cold},
	{"storm", storm},
	{"million", million},
	{"revoke", revoke},
	{"lastused", lastUsed},
}

// choose finds parts by their names; no names are all parts.
func choose(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts, nil
	}
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// tabulate measures the parts one after another, prints the table and saves it. What
// was measured before a part failed is printed and saved too.
func tabulate(ctx context.Context, o options, chosen []part, file string) error {
	folder, err := os.MkdirTemp("", "caddy-system-keys-bench-")
	if err != nil {
		return err
	}
	r := &run{options: o, folder: folder}
	defer r.close()
	found := &report{Machine: thisMachine(ctx)}
	var failed error
	for _, p := range chosen {
		r.part, r.began = p.name, time.Now()
		r.progress("begins")
		rows, err := p.measure(ctx, r)
		for _, row := range rows {
			row.Part = p.name
			found.Rows = append(found.Rows, row)
		}
		if err != nil {
			failed = fmt.Errorf("%s: %w", p.name, err)
			break
		}
		r.progress("done")
	}
	if len(found.Rows) == 0 {
		return failed
	}
	return errors.Join(failed, found.print(os.Stdout), found.save(file))
}
