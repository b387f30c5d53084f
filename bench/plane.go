package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// plane is an admin plane, as an admin with a key uses it.
type plane struct {
	address string
	key     string
}

// list gets a page, and says how long it took and how many keys are on it.
func (p plane) list(ctx context.Context, query string) (took time.Duration, keys int, err error) {
	began := time.Now()
	body, err := p.call(ctx, http.MethodGet, "?"+query)
	took = time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	var page struct {
		Data []json.RawMessage `json:"data"`
	}
	err = json.Unmarshal(body, &page)
	return took, len(page.Data), err
}

// revoke deletes a key.
func (p plane) revoke(ctx context.Context, k minted) error {
	_, err := p.call(ctx, http.MethodDelete, "/"+k.id.String())
	return err
}

// call has to be answered by 200.
func (p plane) call(ctx context.Context, method, rest string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+"/v1/admin/system-keys"+rest, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+p.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s got %d", method, response.StatusCode)
	}
	return body, err
}
