//! Verifies the assertions of caddy-system-keys (`X-Lumio-Assertion`) for axum. What is
//! checked, and why, is in ../README.md.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{OriginalUri, Request, State};
use axum::http::{header, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::RequestExt;
use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

const LEEWAY: i64 = 5; // seconds that clocks may differ by
const MAX_LIFE: i64 = 60; // seconds
const FLOOR: Duration = Duration::from_secs(1); // between two questions for the keys
const FRESH: Duration = Duration::from_secs(5 * 60);
const STALE: Duration = Duration::from_secs(60 * 60);
const TIMEOUT: Duration = Duration::from_secs(5);

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

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Invalid(_) => StatusCode::UNAUTHORIZED.into_response(),
            Refused::Insufficient => StatusCode::FORBIDDEN.into_response(),
            Refused::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
            }
        }
    }
}

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

type KeyMap = HashMap<String, VerifyingKey>;

/// Reads a JSON Web Key Set.
pub fn read_keys(set: &serde_json::Value) -> Result<KeyMap, String> {
    let mut keys = HashMap::new();
    for jwk in set["keys"].as_array().into_iter().flatten() {
        let ours = jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519";
        if !ours || jwk["use"].as_str().unwrap_or("sig") != "sig" || jwk["alg"].as_str().unwrap_or("EdDSA") != "EdDSA" {
            continue;
        }
        let (Some(kid), Some(x)) = (jwk["kid"].as_str(), jwk["x"].as_str()) else { continue };
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(x) else { continue };
        if let Some(key) = bytes.try_into().ok().and_then(|b: [u8; 32]| VerifyingKey::from_bytes(&b).ok()) {
            keys.insert(kid.to_owned(), key);
        }
    }
    if keys.is_empty() {
        return Err("there is no Ed25519 key in the set".into());
    }
    Ok(keys)
}

/// The keys at a URL: read when they are needed, by one for all who wait.
pub struct Keys {
    url: String,
    client: reqwest::Client,
    state: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: KeyMap,
    asked: Option<Instant>,
    next: Option<Instant>,
    failure: Option<String>,
}

impl Known {
    fn find(&self, kid: &str, age: Duration) -> Option<VerifyingKey> {
        self.asked.filter(|asked| asked.elapsed() < age).and_then(|_| self.keys.get(kid).copied())
    }
}

impl Keys {
    pub fn new(url: impl Into<String>) -> Self {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without settings of its own");
        Keys { url: url.into(), client, state: Mutex::default() }
    }

    /// Keys that are known already.
    pub fn fixed(keys: KeyMap) -> Self {
        let fixed = Keys::new("");
        let never = Instant::now() + Duration::from_secs(3600);
        *fixed.state.try_lock().expect("nobody has it yet") =
            Known { keys, asked: Some(Instant::now()), next: Some(never), failure: None };
        fixed
    }

    async fn find(&self, kid: &str) -> Result<VerifyingKey, Refused> {
        let arrived = Instant::now();
        let mut known = self.state.lock().await; // who waits here finds what another has read
        if let Some(key) = known.find(kid, FRESH) {
            return Ok(key);
        }
        let resting = known.next.is_some_and(|next| next > Instant::now());
        let newer = known.asked.is_some_and(|asked| asked >= arrived);
        let stale = known.find(kid, STALE);
        if stale.is_some() && resting {
            return Ok(stale.unwrap());
        }
        if !newer && !(resting && known.failure.is_some()) && !self.url.is_empty() {
            if let Some(next) = known.next {
                tokio::time::sleep_until(next.into()).await;
            }
            self.ask(&mut known).await;
        }
        match (known.find(kid, STALE), &known.failure) {
            (Some(key), _) => Ok(key),
            (None, Some(why)) => Err(Refused::Unavailable(why.clone())),
            (None, None) => Err(Refused::Invalid("its key is not one of the proxy")),
        }
    }

    async fn ask(&self, known: &mut Known) {
        let began = Instant::now();
        match self.fetch().await {
            Ok((keys, old)) => {
                *known = Known {
                    keys,
                    asked: Some(began),
                    next: Some(began + FLOOR),
                    failure: old.then(|| "the keys that are served are old ones".into()),
                }
            }
            Err(why) => {
                known.failure = Some(why);
                known.next = Some(Instant::now() + FLOOR);
            }
        }
    }

    async fn fetch(&self) -> Result<(KeyMap, bool), String> {
        let response = self.client.get(&self.url).header(header::CACHE_CONTROL, "no-cache").send().await;
        let response = response.map_err(|e| e.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("the status is {}", response.status()));
        }
        let age = response.headers().get(header::AGE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u32>().ok());
        let set = response.json().await.map_err(|e| e.to_string())?;
        Ok((read_keys(&set)?, age.unwrap_or(0) > 0))
    }
}

/// Says who sent a request.
pub struct Verifier {
    pub keys: Keys,
    /// What the proxy is configured with.
    pub audience: String,
    pub issuer: String,
    /// The URL under which clients know this service: `https://api.example.com`.
    pub base: String,
    pub now: fn() -> i64,
}

impl Verifier {
    pub fn new(keys: Keys, audience: &str, base: &str) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Verifier { keys, audience: audience.into(), issuer: "caddy-system-keys".into(), base: base.into(), now }
    }

    /// The path is that of the request as it was sent.
    pub async fn verify(&self, assertion: &str, method: &str, path: &str) -> Result<Caller, Refused> {
        const MALFORMED: Refused = Refused::Invalid("malformed");
        let parts: Vec<&str> = assertion.split('.').collect();
        let [first, second, third] = parts[..] else { return Err(MALFORMED) };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED);
        let header: Header = serde_json::from_slice(&decode(first)?).map_err(|_| MALFORMED)?;
        if header.alg != "EdDSA" || header.typ != "lumio-key+jwt" || header.crit.is_some() {
            return Err(Refused::Invalid("another kind of token"));
        }
        let signature = Signature::from_slice(&decode(third)?).map_err(|_| MALFORMED)?;
        let key = self.keys.find(&header.kid).await?;
        let signed = &assertion[..first.len() + 1 + second.len()];
        key.verify_strict(signed.as_bytes(), &signature).map_err(|_| Refused::Invalid("the signature is wrong"))?;

        let c: Claims = serde_json::from_slice(&decode(second)?).map_err(|_| MALFORMED)?;
        if c.iss != self.issuer || c.aud != self.audience {
            return Err(Refused::Invalid("for somebody else"));
        }
        let now = (self.now)();
        let life = c.exp.checked_sub(c.iat).ok_or(MALFORMED)?;
        if life <= 0 || life > MAX_LIFE || now >= c.exp + LEEWAY || now + LEEWAY < c.iat {
            return Err(Refused::Invalid("not at this time"));
        }
        let target = format!("{}{}", self.base, path.split('?').next().unwrap_or_default());
        if c.htm != method || c.htu != target {
            return Err(Refused::Invalid("for another request"));
        }
        if c.sub.is_empty() || c.jti.is_empty() {
            return Err(MALFORMED);
        }
        Ok(Caller { key_id: c.sub, label: c.label, permissions: c.permissions })
    }
}

/// Middleware for `axum::middleware::from_fn_with_state`: lets requests through whose key
/// holds all the permissions.
pub async fn require(
    State((verifier, permissions)): State<(Arc<Verifier>, &'static [&'static str])>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refused> {
    // Of a nested router the URI is cut; the original one is as it was sent.
    let OriginalUri(uri) = request.extract_parts().await.unwrap_or_else(|never| match never {});
    let mut assertions = request.headers().get_all("x-lumio-assertion").iter();
    let (Some(Ok(assertion)), None) = (assertions.next().map(|v| v.to_str()), assertions.next()) else {
        return Err(Refused::Invalid("there is not one assertion"));
    };
    let caller = verifier.verify(assertion, request.method().as_str(), uri.path()).await?;
    if !permissions.iter().all(|p| caller.permissions.iter().any(|held| held == p)) {
        return Err(Refused::Insufficient);
    }
    let unsigned: Vec<HeaderName> = request.headers().keys()
        .filter(|name| name.as_str().replace(['_', '.'], "-").starts_with("x-lumio-"))
        .cloned()
        .collect();
    for name in unsigned {
        request.headers_mut().remove(name); // nobody shall read them
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
