//! Verifies the assertions of caddy-system-keys (`X-Lumio-Assertion`) for axum. What is
//! checked, and why, is in ../README.md.

mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{OriginalUri, Request, State};
use axum::http::{header, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::RequestExt;
use tokio::sync::Mutex;

pub use verify::{read_keys, Caller, Expected, KeyMap, Refused, Unverified};

const FLOOR: Duration = Duration::from_secs(1); // between two questions for the keys
const FRESH: Duration = Duration::from_secs(5 * 60);
const STALE: Duration = Duration::from_secs(60 * 60);
const TIMEOUT: Duration = Duration::from_secs(5);

const VARY: [(HeaderName, &str); 1] = [(header::VARY, "X-Lumio-Key-Id")];
const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Invalid(_) => (StatusCode::UNAUTHORIZED, NO_STORE).into_response(),
            Refused::Insufficient => (StatusCode::FORBIDDEN, NO_STORE).into_response(),
            Refused::Unavailable(why) => {
                eprintln!("lumio-keys: 503: {why}"); // clients are not told what is missing
                (StatusCode::SERVICE_UNAVAILABLE, NO_STORE, [(header::RETRY_AFTER, "1")]).into_response()
            }
        }
    }
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
    fn find(&self, kid: &str, age: Duration) -> Option<[u8; 32]> {
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

    async fn find(&self, kid: &str) -> Result<[u8; 32], Refused> {
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
        if !newer && !(resting && known.failure.is_some()) {
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
                known.failure = Some(format!("the keys at {} cannot be had: {why}", self.url));
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
    keys: Keys,
    expected: Expected,
}

impl Verifier {
    pub fn new(keys: Keys, expected: Expected) -> Self {
        Verifier { keys, expected }
    }

    /// The path is that of the request as it was sent.
    pub async fn verify(&self, assertion: &str, method: &str, path: &str) -> Result<Caller, Refused> {
        let unverified = Unverified::parse(assertion)?;
        let key = self.keys.find(&unverified.kid).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        unverified.verify(&key, &self.expected, method, path, now)
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
    let OriginalUri(uri) = request.extract_parts::<OriginalUri>().await.unwrap_or_else(|never| match never {});
    let mut assertions = request.headers().get_all("x-lumio-assertion").iter();
    let (Some(Ok(assertion)), None) = (assertions.next().map(|v| v.to_str()), assertions.next()) else {
        return Err(Refused::Invalid("there is not one assertion"));
    };
    let caller = verifier.verify(assertion, request.method().as_str(), uri.path()).await?;
    // The proxy takes it out of the answer, and shows with the key what is asked of it.
    let required = [(HeaderName::from_static("x-lumio-required"), permissions.join(","))];
    if !permissions.iter().all(|p| caller.permissions.iter().any(|held| held == p)) {
        return Ok((required, VARY, Refused::Insufficient).into_response());
    }
    let unsigned: Vec<HeaderName> = request.headers().keys()
        .filter(|name| name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-").starts_with("x-lumio-"))
        .cloned()
        .collect();
    for name in unsigned {
        request.headers_mut().remove(name); // nobody shall read them
    }
    request.extensions_mut().insert(caller);
    let mut answer = next.run(request).await;
    // Without these a cache may give the answer for one key to another. The service may say otherwise.
    let [(vary, name)] = VARY;
    answer.headers_mut().append(vary, HeaderValue::from_static(name));
    answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
    Ok(if permissions.is_empty() { answer } else { (required, answer).into_response() })
}
