# syntax=docker/dockerfile:1

# Caddy with caddy-system-keys:
#
#	docker build -f xcaddy.Dockerfile -t lumio/caddy .
#
# For a build that can be repeated, name a release in PLUGIN_VERSION.
ARG CADDY_VERSION=2.11.9

FROM caddy:${CADDY_VERSION}-builder-alpine AS builder

# An ARG from before FROM is not known behind it unless it is named again.
ARG CADDY_VERSION=2.11.9
ARG PLUGIN_VERSION=latest

# The builder image has a CADDY_VERSION of its own, so the version is named. It
# also has file capabilities set on what it builds: a binary that has any cannot
# be started under no-new-privileges or without CAP_NET_BIND_SERVICE.
RUN --mount=type=cache,target=/go/pkg/mod \
	--mount=type=cache,target=/root/.cache/go-build \
	CGO_ENABLED=0 XCADDY_SETCAP=0 xcaddy build "v${CADDY_VERSION}" \
		--with "github.com/lumio-vision/caddy-system-keys@${PLUGIN_VERSION}" \
		--output /caddy \
	&& /caddy list-modules | grep -q http.handlers.system_key_auth

FROM caddy:${CADDY_VERSION}-alpine

COPY --from=builder /caddy /usr/bin/caddy

# Certificates and a SQLite store are kept in /data.
RUN addgroup -S -g 10001 caddy \
	&& adduser -S -D -H -u 10001 -G caddy -h /data -s /sbin/nologin caddy \
	&& mkdir -p /config/caddy /data/caddy \
	&& chown -R caddy:caddy /config /data

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001

# Docker lets every user bind ports 80 and 443 in a container. Where that is not
# so, listen on higher ones (http_port and https_port).
EXPOSE 80 443 443/udp

# Caddy's admin endpoint answers as soon as a config is loaded. With another
# address in `admin`, set CADDY_ADMIN to it; with `admin off`, override this.
HEALTHCHECK --interval=10s --timeout=3s --retries=3 \
	CMD wget -q -O /dev/null "http://${CADDY_ADMIN:-127.0.0.1:2019}/config/" || exit 1

CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
