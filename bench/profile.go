package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// profileLength is how long the server is profiled, at a hundred samples a second of each
// processor.
const profileLength = time.Minute

// profile writes default.pgo. The load is that of requests, with POST requests too.
func (r *run) profile(ctx context.Context) error {
	defer r.end()
	r.part, r.began = "profile", time.Now()
	caddy, bearer, err := r.withKey(ctx)
	if err != nil {
		return err
	}
	sites, err := r.sites(ctx, caddy, bearer)
	if err != nil {
		return err
	}
	posts := caddy.site("system_key_auth\nreverse_proxy " + r.upstream())
	sites = append(sites, newSite("POST", posts, bearer, posted))
	caddy.admin = freeAddress()
	if err := r.serveWarm(ctx, caddy, sites...); err != nil {
		return err
	}
	fetched := make(chan error, 1)
	go func() {
		fetched <- fetchTo(ctx, "default.pgo", fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", caddy.admin, profileLength.Seconds()))
	}()
	err = r.inTurns(ctx, sites, int(profileLength/slice)/len(sites))
	return errors.Join(err, <-fetched)
}

// fetchTo writes what a URL has to a file.
func fetchTo(ctx context.Context, file, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the profile got %s", response.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}
