use lumio_keys::{read_keys, Caller, Keys, Refused, Verifier};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../../upstream/testdata/vectors.json");

fn now() -> i64 {
    serde_json::from_str::<Value>(VECTORS).unwrap()["now"].as_i64().unwrap()
}

#[tokio::test]
async fn vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let verifier = Verifier {
        keys: Keys::fixed(read_keys(&vectors["jwks"]).unwrap()),
        audience: text(&vectors["audience"]),
        issuer: text(&vectors["issuer"]),
        base: text(&vectors["base"]),
        now,
    };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 70);
    for case in cases {
        let of = |name: &str| text(&case[name]);
        let got = verifier.verify(&of("assertion"), &of("method"), &of("path")).await;
        if case["accepted"] == true {
            let identity = &case["identity"];
            let permissions = identity["permissions"].as_array().unwrap().iter().map(text).collect();
            let want = Caller { key_id: text(&identity["key_id"]), label: text(&identity["label"]), permissions };
            assert_eq!(got, Ok(want), "{}", case["name"]);
        } else {
            assert!(matches!(got, Err(Refused::Invalid(_))), "{}: {got:?}", case["name"]);
        }
    }
}
