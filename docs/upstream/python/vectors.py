"""python3 vectors.py ../../../upstream/testdata/vectors.json [URL of the keys, and one where there are none]

python3 vectors.py ../../../upstream/testdata/vectors_shared.json
"""

import json
import sys

from lumio_keys import Caller, Keys, Refused, Shared, Verifier, read_keys

with open(sys.argv[1], encoding="utf-8") as file:
    vectors = json.load(file)


class Fixed:
    algorithm = Keys.algorithm
    known = read_keys(vectors["jwks"]) if "jwks" in vectors else {}

    def __call__(self, kid):
        if kid not in self.known:
            raise Refused(401, "unknown key")
        return self.known[kid]


def verifier_of(keys):
    return Verifier(keys, vectors["audience"], vectors["base"], vectors["issuer"], lambda: vectors["now"])


fixed = Shared(*vectors["secrets"]) if "secrets" in vectors else Fixed()
verifier = verifier_of(Keys(sys.argv[2]) if len(sys.argv) > 2 else fixed)
wrong = 0
for case in vectors["cases"]:
    try:
        got = verifier.verify(case["assertion"], case["method"], case["path"])
    except Refused as refused:
        got = refused
    if case["accepted"]:
        identity = case["identity"]
        good = got == Caller(identity["key_id"], identity["label"], tuple(identity["permissions"]))
    else:
        good = isinstance(got, Refused) and got.status == 401
    if not good:
        wrong += 1
        print(case["name"] + ":", repr(got), file=sys.stderr)
if len(sys.argv) > 3:
    case = vectors["cases"][0]
    try:
        got = verifier_of(Keys(sys.argv[3])).verify(case["assertion"], case["method"], case["path"])
    except Refused as refused:
        got = refused
    if not (isinstance(got, Refused) and got.status == 503):
        wrong += 1
        print("without keys:", repr(got), file=sys.stderr)
print(f"{len(vectors['cases'])} vectors, {wrong} wrong")
sys.exit(1 if wrong or len(vectors["cases"]) < 70 else 0)
