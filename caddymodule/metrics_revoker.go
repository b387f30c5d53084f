package caddymodule

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// timedRevoker measures how long revocations take to be true everywhere. Those
// that are not waited for to the end are not measured.
type timedRevoker struct {
	admin.Revoker
	took prometheus.Observer
	now  func() time.Time
}

// Wait implements [admin.Revoker].
func (r timedRevoker) Wait(
	ctx context.Context, key store.ID, committed time.Time, watch func(coherence.Report),
) (report coherence.Report, err error) {
	ctx, span := observe.Start(ctx, "wait for instances")
	defer func() { observe.End(span, err) }()
	if report, err = r.Revoker.Wait(ctx, key, committed, watch); err == nil {
		r.took.Observe(r.now().Sub(committed).Seconds())
	}
	return report, err
}

var _ admin.Revoker = timedRevoker{}
