//! What an assertion says, and whether it is good. It needs neither network nor framework.

use std::collections::HashMap;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use ring::signature::{UnparsedPublicKey, ED25519};
use serde::Deserialize;

const LEEWAY: i64 = 5; // seconds that clocks may differ by
const MAX_LIFE: i64 = 60; // seconds

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 401: the proxy has not signed it.
    Invalid(&'static str),
    /// 403: a permission is missing.
    Insufficient,
    /// 503: the keys cannot be had.
    Unavailable(String),
}

pub const MALFORMED: Refused = Refused::Invalid("malformed");

/// Who called. A handler gets it as `Extension<Caller>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub key_id: String,
    pub label: String,
    pub permissions: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    label: String,
    permissions: Vec<String>,
    iat: i64,
    exp: i64,
    jti: String,
    htm: String,
    htu: String,
}

pub type KeyMap = HashMap<String, [u8; 32]>;

/// Decodes base64url, strictly: one text for the same bytes.
fn decode(text: &str) -> Result<Vec<u8>, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED)?;
    (URL_SAFE_NO_PAD.encode(&bytes) == text).then_some(bytes).ok_or(MALFORMED)
}

/// Reads a JSON Web Key Set.
pub fn read_keys(set: &serde_json::Value) -> Result<KeyMap, String> {
    let mut keys = HashMap::new();
    for jwk in set["keys"].as_array().into_iter().flatten() {
        let ours = jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519";
        if !ours || jwk["use"].as_str().unwrap_or("sig") != "sig" || jwk["alg"].as_str().unwrap_or("EdDSA") != "EdDSA" {
            continue;
        }
        let (Some(kid), Some(x)) = (jwk["kid"].as_str(), jwk["x"].as_str()) else { continue };
        if let Some(key) = decode(x).ok().and_then(|bytes| bytes.try_into().ok()) {
            keys.insert(kid.to_owned(), key);
        }
    }
    if keys.is_empty() {
        return Err("there is no Ed25519 key in the set".into());
    }
    Ok(keys)
}

/// What a verifier expects.
pub struct Expected {
    /// What the proxy is configured with.
    pub audience: String,
    pub issuer: String,
    /// The URL under which clients know this service: `https://api.example.com`.
    pub base: String,
}

/// An assertion of which nothing is believed yet.
pub struct Unverified<'a> {
    pub kid: String,
    signed: &'a str,
    signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Unverified<'a> {
    pub fn parse(assertion: &'a str) -> Result<Self, Refused> {
        let parts: Vec<&str> = assertion.split('.').collect();
        let [first, payload, third] = parts[..] else { return Err(MALFORMED) };
        let header: Header = serde_json::from_slice(&decode(first)?).map_err(|_| MALFORMED)?;
        if header.alg != "EdDSA" || header.typ != "lumio-key+jwt" || header.crit.is_some() {
            return Err(Refused::Invalid("another kind of token"));
        }
        let signed = &assertion[..first.len() + 1 + payload.len()];
        Ok(Unverified { kid: header.kid, signed, signature: decode(third)?, payload })
    }

    /// The path is that of the request as it was sent, the time is in seconds.
    pub fn verify(self, key: &[u8; 32], want: &Expected, method: &str, path: &str, now: i64) -> Result<Caller, Refused> {
        UnparsedPublicKey::new(&ED25519, key)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Refused::Invalid("the signature is wrong"))?;
        let c: Claims = serde_json::from_slice(&decode(self.payload)?).map_err(|_| MALFORMED)?;
        if c.iss != want.issuer || c.aud != want.audience {
            return Err(Refused::Invalid("for somebody else"));
        }
        let life = c.exp.checked_sub(c.iat).ok_or(MALFORMED)?;
        if life <= 0 || life > MAX_LIFE || now - LEEWAY >= c.exp || now + LEEWAY < c.iat {
            return Err(Refused::Invalid("not at this time"));
        }
        let target = format!("{}{}", want.base, path.split('?').next().unwrap_or_default());
        if c.htm != method || c.htu != target {
            return Err(Refused::Invalid("for another request"));
        }
        if c.sub.is_empty() || c.jti.is_empty() {
            return Err(MALFORMED);
        }
        Ok(Caller { key_id: c.sub, label: c.label, permissions: c.permissions })
    }
}
