// node vectors.mjs ../../../upstream/testdata/vectors.json
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { readKeys, verifier, Refused } from './lumio-keys.mjs'

const vectors = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const keys = readKeys(vectors.jwks)
const verify = verifier({
  keys: async (kid) => keys.get(kid) ?? (() => { throw new Refused(401, 'unknown key') })(),
  audience: vectors.audience, issuer: vectors.issuer, base: vectors.base, now: () => vectors.now,
})
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
console.log(`${vectors.cases.length} vectors, ${wrong} wrong`)
process.exitCode = wrong || vectors.cases.length < 70 ? 1 : 0
