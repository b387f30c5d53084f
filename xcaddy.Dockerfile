# syntax=docker/dockerfile:1

# Caddy with caddy-system-keys, of a release of the plugin, or of this checkout:
#
#	docker build -f xcaddy.Dockerfile --build-arg PLUGIN_VERSION=v1.0.0 -t lumio/caddy-system-keys:1.0.0 .
#	docker build -f xcaddy.Dockerfile --target checkout -t lumio/caddy-system-keys:checkout .
#
# It has been checked and not built yet, where it was written: there was no container engine.
#
# The tag is the plugin's version. The binary says which Caddy it is (caddy version).
ARG CADDY_VERSION=2.11.9

FROM caddy:${CADDY_VERSION}-builder-alpine AS builder

# An ARG from before FROM is not known behind it unless it is named again.
ARG CADDY_VERSION=2.11.9

# The builder image has a CADDY_VERSION of its own, so the version is named below. It
# also has file capabilities set on what it builds: a binary that has any cannot
# be started under no-new-privileges or without CAP_NET_BIND_SERVICE.
ENV CGO_ENABLED=0 XCADDY_SETCAP=0

# A profile of the server under load tells the compiler what to optimize. Flags of ours
# replace those of xcaddy, so they repeat them (v0.4.5, builder.go).
COPY default.pgo /default.pgo
ENV XCADDY_GO_BUILD_FLAGS="-pgo=/default.pgo -trimpath -ldflags '-w -s' -tags nobadger,nomysql,nopgx"

FROM builder AS build-checkout

COPY . /src
RUN --mount=type=cache,target=/go/pkg/mod \
	--mount=type=cache,target=/root/.cache/go-build \
	xcaddy build "v${CADDY_VERSION}" \
		--with github.com/lumio-vision/caddy-system-keys=/src \
		--output /caddy \
	&& /caddy list-modules | grep -q http.handlers.system_key_auth

FROM builder AS build-release

# For a build that can be repeated, name a release.
ARG PLUGIN_VERSION=latest
RUN --mount=type=cache,target=/go/pkg/mod \
	--mount=type=cache,target=/root/.cache/go-build \
	xcaddy build "v${CADDY_VERSION}" \
		--with "github.com/lumio-vision/caddy-system-keys@${PLUGIN_VERSION}" \
		--output /caddy \
	&& /caddy list-modules | grep -q http.handlers.system_key_auth

# What both run in.
FROM caddy:${CADDY_VERSION}-alpine AS runtime

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

FROM runtime AS checkout

COPY --from=build-checkout /caddy /usr/bin/caddy

FROM runtime AS release

COPY --from=build-release /caddy /usr/bin/caddy
