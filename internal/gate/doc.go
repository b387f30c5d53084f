// Package gate decides, request by request, who may pass to the upstream.
//
// It is the policy of the proxy as plain net/http: which requests carry a
// system key, in which order they are checked, and what each refusal says. It
// knows no Caddy; the handlers map its answers.
package gate
