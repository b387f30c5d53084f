// node vectors.mjs ../../../upstream/testdata/vectors.json [URL of the keys, and one where there are none]
// node vectors.mjs ../../../upstream/testdata/vectors_shared.json
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { keysAt, readKeys, sharedSecrets, verifier, Refused } from './lumio-keys.mjs'

const vectors = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const [, , , url, nowhere] = process.argv
const known = vectors.jwks && readKeys(vectors.jwks)
const fixed = vectors.secrets
  ? sharedSecrets(...vectors.secrets)
  : async (kid) => known.get(kid) ?? (() => { throw new Refused(401, 'unknown key') })()
const verifierOf = (keys) => verifier({
  keys, audience: vectors.audience, issuer: vectors.issuer, base: vectors.base, now: () => vectors.now,
})
const verify = verifierOf(url ? keysAt(url) : fixed)
let wrong = 0
for (const { name, assertion, method, path, accepted, identity } of vectors.cases) {
  let caller, refused
  try {
    caller = await verify({ assertion, method, path })
  } catch (error) {
    refused = error
  }
  const good = accepted
    ? isDeepStrictEqual(caller, { keyId: identity.key_id, label: identity.label, permissions: identity.permissions })
    : refused instanceof Refused && refused.status === 401
  if (!good) {
    wrong++
    console.error(`${name}: ${refused ?? JSON.stringify(caller)}`)
  }
}
if (nowhere) {
  const refused = await verifierOf(keysAt(nowhere))(vectors.cases[0]).catch((error) => error)
  if (refused.status !== 503) {
    wrong++
    console.error(`without keys: ${refused}`)
  }
}
console.log(`${vectors.cases.length} vectors, ${wrong} wrong`)
process.exitCode = wrong || vectors.cases.length < 70 ? 1 : 0
