#!/usr/bin/env python3
"""Writes vectors.json: system keys made without any of this project's Go code."""

import hashlib
import hmac
import json
import uuid

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "lm_sys_"


def base62(number, width):
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        text = ALPHABET[digit] + text
    assert number == 0
    return text


def tag(mint_key, signed):
    return int.from_bytes(hmac.new(mint_key, signed.encode(), hashlib.sha256).digest()[:8], "big")


def sign(mint_key, signed):
    return PREFIX + signed + base62(tag(mint_key, signed), 11)


def mint(mint_key, id, secret):
    return sign(mint_key, base62(id.int, 22) + base62(int.from_bytes(secret, "big"), 43))


def derived(name):
    return hashlib.sha256(("system-keys vector " + name).encode()).digest()


def main():
    zero, ones = bytes(32), b"\xff" * 32
    v7 = uuid.UUID("01935c1e-7b3a-7c52-9b1e-3f0a6d2c4e58")
    nil, top = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)
    key = derived("mint key")

    valid = [
        ("every part at its least", zero, nil, zero),
        ("id and secret at their greatest", ones, top, ones),
        ("a UUIDv7 and a random secret", key, v7, derived("secret")),
        ("the same under another mint key", derived("another mint key"), v7, derived("secret")),
        ("a secret with leading zero bytes", key, v7, bytes(24) + derived("short")[:8]),
        ("an id with leading zero bytes", key, uuid.UUID(int=61), derived("secret")),
    ]
    # A tag with leading zero bits, to see that its width is fixed.
    for n in range(1 << 20):
        secret = derived("small tag %d" % n)
        signed = base62(v7.int, 22) + base62(int.from_bytes(secret, "big"), 43)
        if tag(key, signed) < 1 << 52:
            valid.append(("a tag that begins with zeros", key, v7, secret))
            break

    good = mint(key, v7, derived("secret"))
    right = tag(key, good[7:72])
    over_id = base62(2**128, 22) + good[29:72]
    over_secret = good[7:29] + base62(2**256, 43)
    invalid = [
        ("empty", "", "malformed"),
        ("the prefix alone", PREFIX, "malformed"),
        ("without the prefix", good[7:], "malformed"),
        ("the prefix in upper case", good[:7].upper() + good[7:], "malformed"),
        ("one character short", good[:-1], "malformed"),
        ("one character long", good + "0", "malformed"),
        ("white space before", " " + good[:-1], "malformed"),
        ("a line feed at the end", good[:-1] + "\n", "malformed"),
        ("a hyphen, as in base64url", good[:40] + "-" + good[41:], "malformed"),
        ("an underscore, as in base64url", good[:40] + "_" + good[41:], "malformed"),
        ("not ASCII", good[:40] + "\u00e9" + good[42:], "malformed"),
        ("NUL", good[:40] + "\0" + good[41:], "malformed"),
        ("id 2^128, tagged", sign(key, over_id), "malformed"),
        ("id of 22 times z, tagged", sign(key, "z" * 22 + good[29:72]), "malformed"),
        ("secret 2^256, tagged", sign(key, over_secret), "malformed"),
        ("secret of 43 times z, tagged", sign(key, good[7:29] + "z" * 43), "malformed"),
        ("tag 2^64", good[:72] + base62(2**64, 11), "malformed"),
        ("the right tag plus 2^64", good[:72] + base62(right + 2**64, 11), "malformed"),
        ("tag of 11 times z", good[:72] + "z" * 11, "malformed"),
        ("the tag of another mint key", mint(derived("another mint key"), v7, derived("secret")), "unminted"),
        ("a tag of zeros", good[:72] + "0" * 11, "unminted"),
        ("the tag off by one", good[:72] + base62(right ^ 1, 11), "unminted"),
        ("another secret under the same tag", good[:71] + ("0" if good[71] != "0" else "1") + good[72:], "unminted"),
    ]
    with open("vectors.json", "w") as f:
        json.dump(
            {
                "valid": [
                    {"comment": c, "mint_key": k.hex(), "id": str(i), "secret": s.hex(), "key": mint(k, i, s)}
                    for c, k, i, s in valid
                ],
                "invalid": [
                    {"comment": c, "mint_key": key.hex(), "key": s, "reason": r} for c, s, r in invalid
                ],
            },
            f,
            indent=2,
        )
        f.write("\n")


if __name__ == "__main__":
    main()
