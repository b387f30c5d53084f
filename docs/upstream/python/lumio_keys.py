"""Verifies the assertions of caddy-system-keys (X-Lumio-Assertion).

Needs Python 3.9 and the package cryptography. What is checked, and why, is in
../README.md.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import threading
import time
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LEEWAY = 5  # seconds that clocks may differ by
MAX_LIFE = 60  # seconds
FLOOR = 1  # seconds between two questions for the keys
FRESH = 5 * 60
STALE = 60 * 60


class Refused(Exception):
    """Says with which status a request is refused: 401, 403 or 503."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Caller:
    key_id: str
    label: str
    permissions: tuple


def _invalid(why):
    return Refused(401, "the assertion is not valid: " + why)


def _decode(text):
    """Decodes base64url, strictly: one text for the same bytes."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise _invalid("malformed") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise _invalid("malformed")
    return raw


def _object(text):
    try:
        value = json.loads(_decode(text))
    except ValueError:
        raise _invalid("malformed") from None
    if not isinstance(value, dict):
        raise _invalid("malformed")
    return value


def read_keys(key_set):
    """Reads a JSON Web Key Set into a dict from kid to key."""
    keys = {}
    for jwk in key_set.get("keys", []):
        ours = jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519" and jwk.get("kid")
        if ours and jwk.get("use", "sig") == "sig" and jwk.get("alg", "EdDSA") == "EdDSA":
            keys[jwk["kid"]] = Ed25519PublicKey.from_public_bytes(_decode(jwk["x"]))
    if not keys:
        raise ValueError("there is no Ed25519 key in the set")
    return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Keys:
    """The keys at a URL: read when they are needed, by one for all who wait."""

    algorithm = "EdDSA"

    def __init__(self, url):
        self._url, self._lock = url, threading.Lock()
        self._keys, self._asked, self._next, self._failure = {}, -STALE, 0.0, None
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, kid):
        arrived = time.monotonic()
        key = self._known(kid, STALE)
        # Nobody waits for newer keys who has the one that is needed.
        if key and (arrived - self._asked < FRESH or arrived < self._next or self._lock.locked()):
            return key
        with self._lock:  # who waits here finds what another has read meanwhile
            if self._asked < arrived and (self._failure is None or time.monotonic() >= self._next):
                time.sleep(max(0, self._next - time.monotonic()))
                self._ask()
            key = self._known(kid, STALE)
            if key:
                return key
            if self._failure:
                raise Refused(503, "the keys at %s cannot be had: %s" % (self._url, self._failure))
            raise _invalid("its key is not one of the proxy")

    def _known(self, kid, age):
        return self._keys.get(kid) if time.monotonic() - self._asked < age else None

    def _ask(self):
        began = time.monotonic()
        self._next = began + FLOOR
        request = urllib.request.Request(self._url, headers={"Cache-Control": "no-cache"})
        try:
            with self._opener.open(request, timeout=5) as response:
                old = int(response.headers.get("Age") or 0) > 0
                self._keys, self._asked = read_keys(json.load(response)), began
            self._failure = "those that are served are old ones" if old else None
        except (OSError, ValueError, Refused) as error:
            self._failure, self._next = error, time.monotonic() + FLOOR


class Shared:
    """Secrets that the proxy has too (assertion … { secret … }), in place of Keys.

    Whoever has one can sign. Several are accepted while one is replaced.
    """

    algorithm = "HS256"

    def __init__(self, *secrets):
        known = {}
        for text in secrets:
            secret = (text.encode() if isinstance(text, str) else text).strip()  # as the proxy strips it
            if len(secret) < 32:
                raise ValueError("a secret has less than 32 bytes")
            name = hmac.digest(secret, b"caddy-system-keys assertion secret", hashlib.sha256)[:16]
            known[base64.urlsafe_b64encode(name).rstrip(b"=").decode()] = _Secret(secret)
        if not known:
            raise ValueError("a secret is required")
        self._known = known

    def __call__(self, kid):
        if kid not in self._known:
            raise _invalid("it was signed with another secret")
        return self._known[kid]


class _Secret:
    """Verifies as a public key does."""

    def __init__(self, secret):
        self._secret = secret

    def verify(self, signature, text):
        if not hmac.compare_digest(hmac.digest(self._secret, text, hashlib.sha256), signature):
            raise InvalidSignature


class Verifier:
    """Says who sent a request.

    keys      what finds a key by its id: Keys(url) or Shared(secret). It alone says by
              which algorithm a signature is verified, and never the assertion
    audience  what the proxy is configured with
    base      the URL under which clients know this service: https://api.example.com
    """

    def __init__(self, keys, audience, base, issuer="caddy-system-keys", now=time.time):
        self._keys, self._audience, self._base, self._issuer, self._now = keys, audience, base, issuer, now

    def verify(self, assertion, method, path):
        if not assertion:
            raise Refused(401, "there is no assertion")
        parts = assertion.split(".")
        if len(parts) != 3:
            raise _invalid("malformed")
        header = _object(parts[0])
        kid = header.get("kid")
        if header.get("alg") != self._keys.algorithm or header.get("typ") != "lumio-key+jwt" or "crit" in header:
            raise _invalid("another kind of token")
        if not isinstance(kid, str) or not kid:
            raise _invalid("another kind of token")
        signature = _decode(parts[2])
        try:
            self._keys(kid).verify(signature, (parts[0] + "." + parts[1]).encode())
        except InvalidSignature:
            raise _invalid("the signature is wrong") from None
        return self._claims(_object(parts[1]), method, path)

    def _claims(self, claims, method, path):
        def of(kind, name):
            value = claims.get(name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise _invalid("a claim is missing")
            return value

        if of(str, "iss") != self._issuer or of(str, "aud") != self._audience:
            raise _invalid("for somebody else")
        issued, expires, now = of(int, "iat"), of(int, "exp"), self._now()
        if not 0 < expires - issued <= MAX_LIFE or now >= expires + LEEWAY or now + LEEWAY < issued:
            raise _invalid("not at this time")
        if of(str, "htm") != method or of(str, "htu") != self._base + path.split("?")[0]:
            raise _invalid("for another request")
        if not of(str, "sub") or not of(str, "jti"):
            raise _invalid("a claim is missing")
        return Caller(claims["sub"], of(str, "label"), tuple(of(list, "permissions")))


_log = logging.getLogger("lumio_keys")


def _admit(verifier, assertion, method, path, permissions):
    """Returns who called, or None; the status of a refusal; and fields for the answer."""
    try:
        if not path:
            raise Refused(503, "the server does not give the path as it was sent: WSGI needs RAW_URI (gunicorn)"
                          " or REQUEST_URI (uWSGI, mod_wsgi), ASGI needs raw_path (uvicorn, hypercorn)")
        caller = verifier.verify(assertion, method, path)
    except Refused as refused:
        if refused.status != 503:
            return None, refused.status, []
        _log.error("503: %s", refused)  # clients are not told what is missing
        return None, 503, [("Retry-After", "1")]
    more = [("Vary", "X-Lumio-Key-Id")]  # else a cache may give the answer for one key to another
    if permissions:  # the proxy takes it out of the answer, and shows with the key what is asked of it
        more.append(("X-Lumio-Required", ",".join(permissions)))
    if not set(permissions) <= set(caller.permissions):
        return None, 403, more
    return caller, None, more


def _refusal(status, more):
    fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store")] + more
    return fields, json.dumps({"error": {"status": status}}).encode()


def wsgi(app, verifier, *permissions):
    """Wraps a WSGI application (Flask, Django): environ["lumio.caller"] is who called."""

    def wrapped(environ, start):
        path = environ.get("RAW_URI") or environ.get("REQUEST_URI")  # as it was sent
        assertion = environ.get("HTTP_X_LUMIO_ASSERTION")
        caller, status, more = _admit(verifier, assertion, environ["REQUEST_METHOD"], path, permissions)
        if caller is None:
            fields, body = _refusal(status, more)
            start("%d %s" % (status, HTTPStatus(status).phrase), fields)
            return [body]

        def start_response(line, fields, *rest):
            private = [] if any(n.lower() == "cache-control" for n, _ in fields) else [("Cache-Control", "private")]
            return start(line, list(fields) + private + more, *rest)

        for name in [n for n in environ if n.startswith("HTTP_X_LUMIO_")]:
            del environ[name]  # unsigned: nobody shall read them
        environ["lumio.caller"] = caller
        return app(environ, start_response)

    return wrapped


def asgi(app, verifier, *permissions):
    """Wraps an ASGI application (FastAPI, Starlette, Django): scope["lumio.caller"] is who called."""

    async def wrapped(scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await app(scope, receive, send)
        values = [v.decode("latin-1") for n, v in scope["headers"] if n == b"x-lumio-assertion"]
        assertion = values[0] if len(values) == 1 else None
        path, method = (scope.get("raw_path") or b"").decode("latin-1"), scope.get("method", "GET")
        # In a thread, since it may have to wait for the keys.
        caller, status, more = await asyncio.to_thread(_admit, verifier, assertion, method, path, permissions)
        if caller is None and scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if caller is None:
            fields, body = _refusal(status, more)
            await send({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
            return await send({"type": "http.response.body", "body": body})

        async def send_more(message):
            if message["type"] == "http.response.start":
                fields = list(message.get("headers", []))
                private = [] if any(n.lower() == b"cache-control" for n, _ in fields) else [("Cache-Control", "private")]
                message = {**message, "headers": fields + _encoded(private + more)}
            await send(message)

        signed = [(n, v) for n, v in scope["headers"] if not _OWNED.match(n)]  # the others: nobody shall read them
        return await app({**scope, "headers": signed, "lumio.caller": caller}, receive, send_more)

    return wrapped


_OWNED = re.compile(rb"x[^a-z0-9]lumio[^a-z0-9]", re.IGNORECASE)


def _encoded(fields):
    return [(n.lower().encode(), v.encode()) for n, v in fields]
