package caddymodule

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

var errNotReached = errors.New("system_key_auth is never reached: a reverse_proxy before it answers every request, so nobody needs a key. " +
	"In a route block directives run in the order in which they are written: write system_key_auth first")

// checkReached refuses a handler behind a proxy that hands no request on. Caddy provisions the
// routes of a list in turn, so the first route without handlers is that of the handler, or of
// a subroute around it.
func checkReached(ctx caddy.Context, server *caddyhttp.Server) error {
	lists := []caddyhttp.RouteList{server.Routes}
	for _, module := range ctx.Modules() {
		if sub, ok := module.(*caddyhttp.Subroute); ok {
			lists = append(lists, sub.Routes)
		}
	}
	for _, routes := range lists {
		this := slices.IndexFunc(routes, func(r caddyhttp.Route) bool { return r.Handlers == nil })
		if this >= 0 && (endsInProxy(routes[:this]) || proxyBefore(routes[this].HandlersRaw)) {
			return errNotReached
		}
	}
	return nil
}

// proxyBefore reports whether a proxy stands before the handler, or before the first subroute,
// which may have the handler in it.
func proxyBefore(handlers []json.RawMessage) bool {
	for _, raw := range handlers {
		var handler struct {
			Handler        string            `json:"handler"`
			HandleResponse []json.RawMessage `json:"handle_response"`
		}
		switch err := json.Unmarshal(raw, &handler); {
		case err != nil, handler.Handler == "system_key_auth", handler.Handler == "subroute":
			return false
		case handler.Handler == "reverse_proxy" && handler.HandleResponse == nil:
			return true
		}
	}
	return false
}

// endsInProxy reports whether a proxy that hands no request on gets every request. One with
// response handlers may hand it on: forward_auth is made of it. So may a subroute that handles
// errors. Of the routes in a group only the first that matches runs.
func endsInProxy(routes caddyhttp.RouteList) bool {
	groups := make(map[string]bool)
	for _, route := range routes {
		runs := len(route.MatcherSets) == 0 && (route.Group == "" || !groups[route.Group])
		if runs && slices.ContainsFunc(route.Handlers, answersAll) {
			return true
		}
		groups[route.Group] = true
	}
	return false
}

func answersAll(handler caddyhttp.MiddlewareHandler) bool {
	switch h := handler.(type) {
	case *reverseproxy.Handler:
		return len(h.HandleResponse) == 0
	case *caddyhttp.Subroute:
		return h.Errors == nil && endsInProxy(h.Routes)
	}
	return false
}
