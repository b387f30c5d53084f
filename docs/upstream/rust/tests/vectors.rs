use lumio_keys::{read_keys, Caller, Expected, Refused, Unverified};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../../upstream/testdata/vectors.json");

#[test]
fn vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = read_keys(&vectors["jwks"]).unwrap();
    let expected = Expected {
        audience: text(&vectors["audience"]),
        issuer: text(&vectors["issuer"]),
        base: text(&vectors["base"]),
    };
    let now = vectors["now"].as_i64().unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 70);
    for case in cases {
        let (assertion, method, path) = (text(&case["assertion"]), text(&case["method"]), text(&case["path"]));
        let got = Unverified::parse(&assertion).and_then(|unverified| {
            let key = *keys.get(&unverified.kid).ok_or(Refused::Invalid("unknown key"))?;
            unverified.verify(&key, &expected, &method, &path, now)
        });
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
