//! Tokens as a verifier sees them that we did not write (`jsonwebtoken`'s): the good ones are good, and each bad one is bad in the
//! one way that its name tells, so that a refusal means what check 002 says.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use netra_critical::secret::Secret;
use netra_critical::time::now_seconds;
use netra_critical::token::{ACCESS_LIFE_S, BadToken, Claims, ISSUER, Mint, bad_tokens, decode};
use rstest::rstest;
use serde_json::{Map, Value, json};

const SECRET: &str = "a-throw-away-secret-of-this-test";
/// The clock may tick between two tokens, in seconds.
const TICKS_S: i64 = 5;

fn secret() -> Secret {
    Secret::new(SECRET.to_owned())
}

fn part(token: &str, at: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(at).expect("a part")).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// True if the signature is right for what it signs, by this algorithm.
fn signed(token: &str, algorithm: Algorithm) -> bool {
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm).expect("an HMAC key")
}

/// Claims that are not those of a good token, with what they are; times as seconds from now.
fn changed(token: &str) -> BTreeMap<String, Value> {
    let claims = part(token, 1);
    let good = part(&Claims::access("a-user", "a@example.test").sign(&secret()), 1);
    let [claims, good] = [&claims, &good].map(|it| it.as_object().expect("claims"));
    let moved = |name: &str, claims: &Map<String, Value>| {
        let value = claims.get(name).cloned().unwrap_or_default();
        match (name, value.as_i64()) {
            ("iat" | "exp", Some(at)) => json!(at - now_seconds()),
            _ => value,
        }
    };
    let same = |name: &str| {
        let (is, was) = (moved(name, claims), moved(name, good));
        let near = is.as_i64().zip(was.as_i64()).is_some_and(|(is, was)| (is - was).abs() <= TICKS_S);
        is == was || near || (name == "jti" && is.as_str().is_some_and(|jti| uuid::Uuid::parse_str(jti).is_ok()))
    };
    let names = good.keys().chain(claims.keys()).filter(|name| !same(name));
    names.map(|name| (name.clone(), moved(name, claims))).collect()
}

fn bad(kind: &str) -> BadToken {
    let mut all = bad_tokens("a-user", "a@example.test", &Mint::new(), &secret()).into_iter();
    all.find(|it| it.kind == kind).unwrap_or_else(|| panic!("no token is {kind}"))
}

#[test]
fn a_good_token_satisfies_a_verifier_that_we_did_not_write() {
    let mut strict = Validation::new(Algorithm::HS256);
    strict.leeway = 0;
    strict.set_issuer(&[ISSUER]);
    strict.set_audience(&["netra-platform"]);
    strict.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
    let token = Claims::access("a-user", "a@example.test").sign(&secret());
    let claims = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_secret(SECRET.as_bytes()), &strict).expect("good").claims;
    assert_eq!((&claims["sub"], &claims["token_type"], &claims["type"]), (&json!("a-user"), &json!("access"), &json!("access")));
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(1_800));
    assert_eq!(ACCESS_LIFE_S, 1_800);
    let other = Claims::access("a-user", "a@example.test").sign(&secret());
    assert_ne!(part(&other, 1)["jti"], claims["jti"]);
    assert_eq!(decode(&token), Some(claims));
    assert_eq!(decode("no.token.this"), None);
}

#[test]
fn a_refresh_token_is_one_for_24_hours() {
    let claims = part(&Claims::refresh("a-user", "a@example.test").sign(&secret()), 1);
    assert_eq!((&claims["token_type"], &claims["type"]), (&json!("refresh"), &json!("refresh")));
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(86_400));
}

#[rstest]
#[case::expired("expired", json!({"iat": -3600, "exp": -1800}))]
#[case::just_expired("expired one second ago", json!({"iat": -60, "exp": -1}))]
#[case::from_the_future("issued in the future", json!({"iat": 3600, "exp": 7200}))]
#[case::old("older than 24 hours", json!({"iat": -90_000}))]
#[case::no_exp("without exp", json!({"exp": null}))]
#[case::no_sub("without sub", json!({"sub": null}))]
#[case::no_jti("without jti", json!({"jti": null}))]
#[case::no_type("without token_type", json!({"token_type": null}))]
#[case::issuer("from another issuer", json!({"iss": "somebody-else"}))]
#[case::audience("for another audience", json!({"aud": "another-platform"}))]
#[case::refresh("of type refresh", json!({"token_type": "refresh", "type": "refresh", "exp": 86_400}))]
fn a_token_with_wrong_claims_is_signed_and_has_just_these(#[case] kind: &str, #[case] wanted: Value) {
    let bad = bad(kind);
    assert!(signed(&bad.token, Algorithm::HS256) && part(&bad.token, 0)["alg"] == "HS256");
    let changed = changed(&bad.token);
    let wanted = wanted.as_object().expect("claims");
    assert!(changed.keys().eq(wanted.keys().collect::<std::collections::BTreeSet<_>>()), "{changed:?}");
    for (name, is) in &changed {
        let near = is.as_i64().zip(wanted[name].as_i64()).is_some_and(|(is, wanted)| (is - wanted).abs() <= TICKS_S);
        assert!(near || *is == wanted[name], "{name}: {is}, not {}", wanted[name]);
    }
    assert_eq!(bad.code, "VALIDATION_FAILED");
}

#[rstest]
#[case::secret("signed with another secret", "HS256", false)]
#[case::none("with alg none", "none", false)]
#[case::none_capital("with alg None", "None", false)]
#[case::none_mixed("with alg noNE", "noNE", false)]
#[case::none_unsigned("with alg none, unsigned", "none", false)]
#[case::none_capital_unsigned("with alg None, unsigned", "None", false)]
#[case::none_mixed_unsigned("with alg noNE, unsigned", "noNE", false)]
#[case::stripped("with a stripped signature", "HS256", false)]
#[case::confusion("with an RS256 header over an HMAC", "RS256", true)]
fn a_token_with_a_wrong_signature_has_every_claim_in_order(#[case] kind: &str, #[case] alg: &str, #[case] hmac: bool) {
    let BadToken { token, code, .. } = bad(kind);
    assert_eq!(part(&token, 0)["alg"], alg);
    assert_eq!((signed(&token, Algorithm::HS256), token.split('.').count()), (hmac, 3), "{token}");
    assert!(changed(&token).is_empty(), "{:?}", changed(&token));
    // The contract names another code for what has no signature at all.
    assert_eq!(code == "INVALID_FORMAT", token.ends_with('.'));
}

#[test]
fn the_other_bad_tokens_are_what_they_are_called() {
    let good = |token: &str| signed(token, Algorithm::HS256) && changed(token).is_empty();
    let two = bad("malformed, 2 parts").token;
    assert!(two.split('.').count() == 2 && changed(&two).is_empty());
    let four = bad("malformed, 4 parts").token;
    assert!(good(four.strip_suffix(".extra").expect("an extra part")));
    let changed_payload = bad("with a changed payload").token;
    assert_eq!(changed(&changed_payload), BTreeMap::from([("sub".to_owned(), json!("somebody-else"))]));
    assert!(!signed(&changed_payload, Algorithm::HS256) && !changed_payload.ends_with('.'));
    let hs512 = bad("with alg HS512").token;
    assert!(signed(&hs512, Algorithm::HS512) && part(&hs512, 0)["alg"] == "HS512" && changed(&hs512).is_empty());
    let large = bad("of 16 KiB").token;
    assert!(large.len() > 16 * 1024 && large.len() < 32 * 1024 && signed(&large, Algorithm::HS256));
    assert!(changed(&large).keys().eq(["aud", "padding"]), "{:?}", changed(&large).keys());
    let json: Value = serde_json::from_str(&bad("in JSON serialization").token).expect("JSON");
    let of = |name: &str| json[name].as_str().expect("a member").to_owned();
    assert!(good(&[of("protected"), of("payload"), of("signature")].join(".")));
    assert!(bad("malformed, not base64").token.split('.').all(|part| URL_SAFE_NO_PAD.decode(part).is_err()));
}

#[rstest]
#[case::changed(json!({"iss": "others"}), json!({"iss": "others"}), json!({"iss": "others"}))]
#[case::left_out(json!({"aud": ""}), json!({"aud": null}), json!({"aud": null}))]
#[case::no_text(json!({"iat": 1}), json!({"iat": 1}), json!({"iat": 1}))]
#[case::what_makes_it_a_refresh_token_stays(
    json!({"token_type": "other", "type": "", "exp": 9}),
    json!({"token_type": "other", "type": null, "exp": 9}),
    json!({})
)]
#[case::the_algorithm_is_no_claim(json!({"alg": "HS384"}), json!({}), json!({}))]
fn a_target_may_want_other_claims(#[case] mint: Value, #[case] access: Value, #[case] refresh: Value) {
    let mint: Mint = serde_json::from_value(mint).expect("a table");
    let made = [Claims::access("a-user", "a@example.test"), Claims::refresh("a-user", "a@example.test")];
    for (claims, differs) in made.into_iter().zip([access, refresh]) {
        let is = part(&claims.clone().as_minted(&mint).sign(&secret()), 1);
        let mut wanted = part(&claims.sign(&secret()), 1);
        for (name, value) in differs.as_object().expect("claims") {
            let members = wanted.as_object_mut().expect("claims");
            if value.is_null() { drop(members.remove(name)) } else { drop(members.insert(name.clone(), value.clone())) }
        }
        assert_eq!(is, wanted);
    }
}

#[rstest]
#[case(json!({}), Algorithm::HS256)]
#[case(json!({"alg": "HS256"}), Algorithm::HS256)]
#[case(json!({"alg": "HS384"}), Algorithm::HS384)]
#[case(json!({"alg": "HS512"}), Algorithm::HS512)]
fn a_target_may_want_another_algorithm(#[case] mint: Value, #[case] algorithm: Algorithm) {
    let mint: Mint = serde_json::from_value(mint).expect("a table");
    let token = Claims::access("a-user", "a@example.test").sign_minted(&mint, &secret());
    assert_eq!(part(&token, 0)["alg"], format!("{algorithm:?}"));
    assert!(signed(&token, algorithm));
}
