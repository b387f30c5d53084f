// Verifies the assertions of caddy-system-keys (X-Lumio-Assertion) with nothing but
// what Node has built in (18.3 or later). What is checked, and why, is in ../README.md.
import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto'

const LEEWAY = 5 // seconds that clocks may differ by
const MAX_LIFE = 60 // seconds
const FLOOR = 1000 // milliseconds between two questions for the keys
const FRESH = 5 * 60_000
const STALE = 60 * 60_000

export class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status // 401, 403 or 503
  }
}

const unavailable = (url, { message, cause }) =>
  new Refused(503, `the keys at ${url} cannot be had: ${message}${cause ? `: ${cause.code ?? cause.message}` : ''}`)
const invalid = (why) => new Refused(401, `the assertion is not valid: ${why}`)

/** Decodes base64url, strictly: one text for the same bytes. */
function decode(text) {
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.toString('base64url') !== text) throw invalid('malformed')
  return bytes
}

function object(text) {
  let value
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(decode(text)))
  } catch {
    throw invalid('malformed')
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalid('malformed')
  return value
}

/** Reads a JSON Web Key Set into a map from kid to key. */
export function readKeys(set) {
  const keys = new Map()
  for (const jwk of set.keys ?? []) {
    const ours = jwk.kty === 'OKP' && jwk.crv === 'Ed25519' && jwk.kid &&
      (jwk.use ?? 'sig') === 'sig' && (jwk.alg ?? 'EdDSA') === 'EdDSA'
    if (ours) keys.set(jwk.kid, createPublicKey({ key: { kty: jwk.kty, crv: jwk.crv, x: jwk.x }, format: 'jwk' }))
  }
  if (keys.size === 0) throw new Error('there is no Ed25519 key in the set')
  return keys
}

/** The keys at a URL: read when they are needed, once for all who wait. */
export function keysAt(url, { fetch = globalThis.fetch, now = Date.now } = {}) {
  let keys, asked = -Infinity, next = -Infinity, failure, fetching
  const ask = () => {
    const began = now()
    next = began + FLOOR
    fetching = (async () => {
      try {
        const response = await fetch(url, {
          redirect: 'error', headers: { 'Cache-Control': 'no-cache' }, signal: AbortSignal.timeout(5000),
        })
        if (response.status !== 200) throw new Error(`the status is ${response.status}`)
        const old = Number(response.headers.get('age') ?? 0) > 0
        keys = readKeys(await response.json())
        asked = began
        failure = old ? new Error('the keys that are served are old ones') : undefined
      } catch (error) {
        failure = error
        next = now() + FLOOR
      }
      fetching = undefined
    })()
    return fetching
  }
  return async (kid) => {
    const arrived = now()
    for (;;) {
      const key = now() - asked < STALE ? keys?.get(kid) : undefined
      if (key) {
        if (now() - asked >= FRESH && !fetching && now() >= next) ask() // and nobody waits for it
        return key
      }
      if (fetching) await fetching
      else if (failure && (next > now() || next - FLOOR >= arrived)) throw unavailable(url, failure)
      else if (asked >= arrived) throw invalid('its key is not one of the proxy')
      else if (next > now()) await new Promise((resolve) => setTimeout(resolve, next - now()))
      else await ask()
    }
  }
}

/**
 * Secrets that the proxy has too (`assertion … { secret … }`), in place of keysAt. Whoever
 * has one can sign. Several are accepted while one is replaced.
 */
export function sharedSecrets(...secrets) {
  const known = new Map()
  for (const text of secrets) {
    const secret = Buffer.from(text.toString().trim()) // as the proxy trims it
    if (secret.length < 32) throw new Error('a secret has less than 32 bytes')
    const mac = (signed) => createHmac('sha256', secret).update(signed).digest()
    known.set(mac('caddy-system-keys assertion secret').subarray(0, 16).toString('base64url'), mac)
  }
  if (known.size === 0) throw new Error('a secret is required')
  const find = async (kid) => known.get(kid) ?? (() => { throw invalid('it was signed with another secret') })()
  return Object.assign(find, { algorithm: 'HS256' })
}

/** Whether a signature is that of a key, or of a secret. */
function isSigned(text, key, signature) {
  if (typeof key !== 'function') return signature.length === 64 && verify(null, Buffer.from(text), key, signature)
  return signature.length === 32 && timingSafeEqual(key(text), signature)
}

/**
 * Returns a function that says who sent a request, or throws Refused.
 *
 *   keys      what finds a key by its id: keysAt(url) or sharedSecrets(secret). It alone
 *             says by which algorithm a signature is verified, and never the assertion
 *   audience  what the proxy is configured with
 *   base      the URL under which clients know this service: https://api.example.com
 */
export function verifier({ keys, audience, base, issuer = 'caddy-system-keys', now = () => Date.now() / 1000 }) {
  const algorithm = keys.algorithm ?? 'EdDSA'
  return async ({ assertion, method, path }) => {
    if (!assertion) throw new Refused(401, 'there is no assertion')
    const parts = assertion.split('.')
    if (parts.length !== 3) throw invalid('malformed')
    const header = object(parts[0])
    if (header.alg !== algorithm || header.typ !== 'lumio-key+jwt' || 'crit' in header ||
      typeof header.kid !== 'string' || header.kid === '') throw invalid('another kind of token')
    const signature = decode(parts[2])
    const key = await keys(header.kid)
    if (!isSigned(`${parts[0]}.${parts[1]}`, key, signature)) throw invalid('the signature is wrong')
    const claims = object(parts[1])
    const { iss, aud, sub, jti, label, permissions, iat, exp, htm, htu } = claims
    if (iss !== issuer || aud !== audience) throw invalid('for somebody else')
    if (typeof sub !== 'string' || sub === '' || typeof jti !== 'string' || jti === '' || !Array.isArray(permissions) ||
      typeof label !== 'string' || !Number.isSafeInteger(iat) || !Number.isSafeInteger(exp)) throw invalid('a claim is missing')
    if (exp <= iat || exp - iat > MAX_LIFE || now() >= exp + LEEWAY || now() + LEEWAY < iat) throw invalid('not at this time')
    if (htm !== method || htu !== base + path.split('?')[0]) throw invalid('for another request')
    return { keyId: sub, label, permissions }
  }
}

/** Middleware of the form (req, res, next), as Express and Connect have it. */
export function requirePermissions(verify, ...permissions) {
  return async (req, res, next) => {
    try {
      // Of several fields Node joins the values, and the result is no assertion.
      const assertion = req.headers['x-lumio-assertion']
      const caller = await verify({ assertion, method: req.method, path: req.originalUrl ?? req.url })
      // Without these a cache may give the answer for one key to another. The service may say otherwise.
      res.appendHeader('Vary', 'X-Lumio-Key-Id')
      if (!res.hasHeader('Cache-Control')) res.setHeader('Cache-Control', 'private')
      // The proxy takes it out of the answer, and shows with the key what is asked of it.
      if (permissions.length > 0) res.setHeader('X-Lumio-Required', permissions.join(','))
      if (!permissions.every((p) => caller.permissions.includes(p))) throw new Refused(403, 'a permission is missing')
      for (const name of Object.keys(req.headers)) { // unsigned: nobody shall read them
        if (name.replace(/[^a-z0-9]/g, '-').startsWith('x-lumio-')) delete req.headers[name]
      }
      req.caller = caller
    } catch (error) {
      const status = error instanceof Refused ? error.status : 500
      if (status >= 500) console.error(`lumio-keys: ${status}: ${error.message}`) // clients are not told what is missing
      res.writeHead(status, {
        'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...(status === 503 && { 'Retry-After': '1' }),
      })
      res.end(JSON.stringify({ error: { status, message: status === 503 ? 'try again' : 'refused' } }))
      return
    }
    next()
  }
}
