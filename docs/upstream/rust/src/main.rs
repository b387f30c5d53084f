//! An API that knows its callers: cargo run -- https://api.example.com

use std::sync::Arc;

use axum::{middleware::from_fn_with_state, routing::get, Extension, Router};
use lumio_keys::{require, Caller, Expected, Keys, Verifier};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let base = std::env::args().nth(1).expect("the URL under which clients know this service");
    let keys = Keys::new(format!("{base}/.well-known/lumio-keys.json"));
    let expected = Expected { audience: "lumio-api".into(), issuer: "caddy-system-keys".into(), base };
    let verifier = Arc::new(Verifier::new(keys, expected));
    let bots: &[&str] = &["bots:read"];
    let app = Router::new().route(
        "/bots",
        get(|Extension(caller): Extension<Caller>| async move { format!("hello {}", caller.label) })
            .layer(from_fn_with_state((verifier, bots), require)),
    );
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8000").await?, app).await
}
