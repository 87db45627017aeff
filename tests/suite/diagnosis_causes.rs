//! A table of causes: each is planted in the stand-in or in the configuration, a check fails for it, and the diagnosis must name
//! it as its first answer. With two planted at once it names both, or the one that hides the other.

use base64::Engine as _;
use netra_critical::Verdict;
use netra_critical::token::Claims;
use netra_stand_in::StandIn;
use rstest::rstest;

use crate::diagnosis_plant::{Body, Plant};

fn now() -> i64 {
    netra_critical::time::now_seconds()
}

/// Demands these causes, in this order.
async fn demand(plant: Plant, body: Body, wanted: &[&str]) {
    let (evidence, text, _out) = plant.run(body).await;
    assert_ne!(evidence.verdict, Verdict::Passed, "the cause breaks the check");
    let found = evidence.diagnosis.as_ref().unwrap_or_else(|| panic!("no diagnosis:{text}"));
    let names: Vec<_> = found.causes.iter().map(|cause| cause.name.as_str()).collect();
    assert_eq!(
        names.iter().take(wanted.len()).collect::<Vec<_>>(),
        wanted.iter().collect::<Vec<_>>(),
        "{}\n{}",
        text,
        found.table()
    );
    assert!(found.trouble.is_none(), "{text}");
    assert!(found.trials.len() <= netra_critical::diagnose::lab::REQUESTS_AT_MOST, "{}", found.trials.len());
    assert!(text.contains(&format!("cause         {}: ", wanted[0])), "{text}");
    assert_eq!(evidence.class, found.causes.first().map(|cause| cause.class), "{text}");
    assert!((3..=5).contains(&found.whys.len()) && !found.next.is_empty(), "{text}");
    assert!(found.causes[0].evidence.iter().all(|id| text.contains(id)), "{text}");
    for secret in ["not-the-secret-of-the-server", "eyJ"] {
        assert!(!text.contains(secret), "{text}");
    }
}

// ---- our tokens -----------------------------------------------------------------------------------------------------

#[rstest]
#[case::token_type_left_out("token_type = \"\"", "token_type")]
#[case::token_type_wrong("token_type = \"refresh\"", "token_type")]
#[case::jti_left_out("jti = \"\"", "jti")]
#[case::jti_no_uuid("jti = \"one\"", "jti")]
#[case::issuer_wrong("iss = \"somebody-else\"", "iss")]
#[case::issuer_left_out("iss = \"\"", "iss")]
#[case::audience_wrong("aud = \"another-platform\"", "aud")]
#[case::subject_left_out("sub = \"\"", "sub")]
#[case::times_in_milliseconds(&format!("iat = {0}\nexp = {1}", now() * 1000, (now() + 1800) * 1000), "time-unit")]
#[case::expired(&format!("iat = {0}\nexp = {1}", now() - 3600, now() - 1800), "times")]
#[case::issued_in_the_future(&format!("iat = {0}\nexp = {1}", now() + 3600, now() + 7200), "times")]
#[case::algorithm("alg = \"HS512\"", "algorithm")]
#[tokio::test]
async fn a_wrong_claim_of_ours_is_named(#[case] claims: &str, #[case] cause: &str) {
    demand(Plant::new().mint(claims), Body::Login, &[cause]).await;
}

#[tokio::test]
async fn a_claim_that_the_socket_alone_demands_is_named() {
    let plant = Plant::new().fault("token-type-demanded-by-the-socket-alone").mint("token_type = \"\"");
    demand(plant, Body::Socket, &["token_type"]).await;
}

#[rstest]
#[case::white_space(|it: &StandIn| format!(" {}\n", it.jwt_secret()), "secret-form")]
#[case::to_be_decoded(|it: &StandIn| base64::engine::general_purpose::STANDARD.encode(it.jwt_secret()), "secret-form")]
#[case::another(|_: &StandIn| "not-the-secret-of-the-server".to_owned(), "secret")]
#[tokio::test]
async fn a_wrong_secret_of_ours_is_named(
    #[case] secret: fn(&StandIn) -> String,
    #[case] cause: &str,
    #[values(true, false)] mint: bool,
) {
    let plant = Plant::new().env("JWT_SECRET_STAGING", secret);
    let (plant, body) = if mint { (plant.mint(""), Body::Socket) } else { (plant, Body::Control) };
    demand(plant, body, &[cause]).await;
}

#[tokio::test]
async fn a_secret_that_must_be_encoded_first_is_named() {
    let plant = Plant::new()
        .option(|it| it.jwt_secret = Some(base64::engine::general_purpose::STANDARD.encode("a-raw-secret-of-32-characters-!!")));
    demand(
        plant.mint("").env("JWT_SECRET_STAGING", |_| "a-raw-secret-of-32-characters-!!".to_owned()),
        Body::Login,
        &["secret-form"],
    )
    .await;
}

#[rstest]
#[case::expired(|claims: Claims| claims.with("iat", now() - 3600).with("exp", now() - 1800), "times")]
#[case::refresh(|claims: Claims| claims.with("token_type", "refresh"), "token_type")]
#[tokio::test]
async fn a_token_that_was_handed_in_is_judged_like_ours(#[case] change: fn(Claims) -> Claims, #[case] cause: &str) {
    let token = move |it: &StandIn| {
        let secret = netra_critical::secret::Secret::new(it.jwt_secret().to_owned());
        change(Claims::access("handed-in", "handed@example.test")).sign(&secret)
    };
    let plant = Plant::new().set("token_source = \"env\"\naccess_token_envs = [\"TOKEN_1\"]").env("TOKEN_1", token);
    demand(plant, Body::Login, &[cause]).await;
}

// ---- their tokens ---------------------------------------------------------------------------------------------------

#[rstest]
#[case("other-issuer-demanded", "iss")]
#[case("other-audience-demanded", "aud")]
#[case("other-token-type-demanded", "token_type")]
#[case("milliseconds-demanded", "time-unit")]
#[case("clock-behind", "clock")]
#[tokio::test]
async fn a_demand_beyond_the_contract_is_named(#[case] fault: &str, #[case] cause: &str, #[values(true, false)] mint: bool) {
    let plant = Plant::new().fault(fault);
    let (plant, body) = if mint { (plant.mint(""), Body::Login) } else { (plant, Body::Control) };
    demand(plant, body, &[cause]).await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_is_named_where_it_makes_a_short_token_old() {
    demand(Plant::new().fault("clock-ahead").mint(&format!("exp = {}", now() + 300)), Body::Login, &["clock"]).await;
    demand(Plant::new().fault("clock-ahead"), Body::Message, &["clock"]).await;
    demand(Plant::new().fault("clock-behind"), Body::Message, &["clock"]).await;
}

#[rstest]
#[case("issued-without-token-type", Body::Login, "token_type")]
#[case("service-credentials-wrong", Body::Login, "service-credentials")]
#[case("service-credentials-wrong", Body::Socket, "service-credentials")]
#[case("inter-service-auth-failed", Body::Socket, "service-credentials")]
#[case("auth-link-unreachable", Body::Socket, "auth-link-unreachable")]
#[case("auth-service-down", Body::Login, "auth-service-down")]
#[case("auth-service-frozen", Body::Login, "auth-service-frozen")]
#[case("auth-service-slow", Body::Socket, "auth-service-slow")]
#[case("valid-token-refused", Body::Socket, "socket-refuses")]
#[case("subprotocol-token-ignored", Body::Login, "subprotocol-ignored")]
#[case("authentication-off", Body::Refusals, "authentication-bypassed")]
#[case("bypass-headers-accepted", Body::Refusals, "bypass-by-header")]
#[case("bad-signature-accepted", Body::Refusals, "signature-not-verified")]
#[case("expired-accepted", Body::Refusals, "bad-token-accepted")]
#[case("refusal-remembered", Body::Socket, "remembered-refusal")]
#[case("user-suspended", Body::Socket, "user")]
#[case("one-route-refuses", Body::Tools, "route-refuses")]
#[tokio::test]
async fn a_cause_between_the_services_is_named(#[case] fault: &str, #[case] body: Body, #[case] cause: &str) {
    demand(Plant::new().fault(fault), body, &[cause]).await;
}

// ---- everything else ------------------------------------------------------------------------------------------------

#[rstest]
#[case("bare-1011-after-auth", Body::Socket, "internal-error-after-authentication")]
#[case("sixth-connection-refused", Body::Cycles, "connection-leak")]
#[case("startup-incomplete", Body::Socket, "startup-incomplete")]
#[case("execute-mock-answer", Body::Agent, "canned-agents")]
#[case("execute-fallback-answer", Body::Agent, "canned-agents")]
#[case("fallback-events", Body::Chat, "canned-agents")]
#[case("store-per-process", Body::Thread, "store-per-process")]
#[case("stale-build", Body::Route, "stale-build")]
#[tokio::test]
async fn a_cause_in_the_service_is_named(#[case] fault: &str, #[case] body: Body, #[case] cause: &str) {
    demand(Plant::new().fault(fault), body, &[cause]).await;
}

#[tokio::test]
async fn a_wrong_key_for_test_users_is_named() {
    let plant = Plant::new().env("E2E_OAUTH_SIMULATION_KEY", |_| "not-the-key-of-the-server".to_owned());
    demand(plant, Body::Login, &["simulation-key"]).await;
    let plant =
        Plant::new().option(|it| it.e2e_key = Some(String::new())).env("E2E_OAUTH_SIMULATION_KEY", |_| "any-key".to_owned());
    demand(plant, Body::Login, &["simulation-key-not-configured"]).await;
    let plant = Plant::new().option(|it| "production".clone_into(&mut it.environment)).set("environment = \"staging\"");
    demand(plant, Body::Login, &["wrong-environment", "simulation-forbidden"]).await;
}

#[tokio::test]
async fn a_wrong_environment_is_named() {
    demand(Plant::new().option(|it| "development".clone_into(&mut it.environment)), Body::Login, &["wrong-environment"]).await;
}

#[tokio::test]
async fn too_many_requests_are_named() {
    demand(Plant::new().option(|it| it.rate_limit_per_minute = 1), Body::Thread, &["rate-limit"]).await;
}

#[tokio::test]
async fn a_slow_way_is_told_from_a_slow_service() {
    demand(Plant::new().option(|it| it.latency = std::time::Duration::from_millis(80)), Body::Pace, &["slow-network"]).await;
    demand(Plant::new().fault("slow-health"), Body::Pace, &["slow-service"]).await;
}

#[tokio::test]
async fn wrong_addresses_are_named() {
    let plant = || Plant::new();
    demand(plant().env("CRITICAL_WS_URL", |it| it.ws_url().replace("/ws", "/socket")), Body::Socket, &["wrong-ws-url"]).await;
    demand(plant().env("CRITICAL_API_URL", |it| it.auth_url().to_owned()), Body::Route, &["urls-swapped"]).await;
    demand(plant().env("CRITICAL_AUTH_URL", |_| "https://no-such-host.invalid".to_owned()), Body::Login, &["dns"]).await;
}

#[tokio::test]
async fn a_step_of_the_way_that_fails_is_named() {
    demand(Plant::new().stopped(), Body::Login, &["nothing-listens"]).await;
    let untrusted = || Plant::new().env("CRITICAL_CA_FILE", |_| String::new());
    demand(untrusted(), Body::Login, &["certificate-untrusted"]).await;
    let (_, told, _out) = untrusted().run(Body::Login).await;
    assert!(told.contains("issued by \"netra stand-in authority (throw-away)\", valid from 20"), "{told}");
    let other_name = Plant::new().option(|it| it.listen = "127.0.0.2:0".parse().expect("an address"));
    demand(other_name, Body::Login, &["certificate-name"]).await;
    let plain = Plant::new().option(|it| it.plain = true);
    let plain = plain.env("CRITICAL_AUTH_URL", |it| it.auth_url().replace("http:", "https:"));
    demand(plain, Body::Login, &["tls"]).await;
}

#[rstest]
#[case("connection-refused", Body::Socket, "nothing-listens")]
#[case("wrong-host-certificate", Body::Socket, "certificate-name")]
#[case("expired-certificate", Body::Socket, "certificate-expired")]
#[case("untrusted-certificate", Body::Socket, "certificate-untrusted")]
#[case("plain-http-on-https-port", Body::Socket, "tls")]
#[case("reset-after-bytes", Body::Thread, "connection-cut")]
#[case("half-open", Body::Socket, "no-answer")]
#[case("stall-mid-body", Body::Tools, "connection-cut")]
#[case("close-without-close-frame", Body::Chat, "connection-cut")]
#[case("gateway-502-html", Body::Tools, "gateway")]
#[case("gateway-502-html", Body::Socket, "gateway")]
#[case("firewall-403-on-upgrade", Body::Socket, "firewall")]
#[case("authorization-stripped-on-upgrade", Body::Socket, "authorization-lost")]
#[case("not-ready-503", Body::Tools, "not-ready")]
#[tokio::test]
async fn a_cause_before_the_service_is_named(#[case] fault: &str, #[case] body: Body, #[case] cause: &str) {
    demand(Plant::new().fault(fault), body, &[cause]).await;
}

// ---- two at once ----------------------------------------------------------------------------------------------------

#[rstest]
#[case::two_claims(Plant::new().mint("token_type = \"\"\niss = \"somebody-else\""), Body::Login, &["token_type", "iss"])]
#[case::claim_and_unit(Plant::new().mint(&format!("jti = \"\"\niat = {}\nexp = {}", now() * 1000, (now() + 1800) * 1000)), Body::Login, &["jti", "time-unit"])]
#[case::claim_and_clock(Plant::new().mint("aud = \"another-platform\"").fault("clock-behind"), Body::Login, &["aud", "clock"])]
#[case::claim_and_demand(Plant::new().mint("jti = \"\"").fault("other-issuer-demanded"), Body::Login, &["iss", "jti"])]
#[case::claim_and_white_space(Plant::new().mint("token_type = \"\"").env("JWT_SECRET_STAGING", |it| format!("{}\n", it.jwt_secret())), Body::Login, &["token_type", "secret-form"])]
#[case::claim_and_secret(Plant::new().mint("token_type = \"\"").env("JWT_SECRET_STAGING", |_| "not-the-secret-of-the-server".to_owned()), Body::Login, &["secret", "token_type"])]
#[case::bypass_hides_the_claim(Plant::new().mint("token_type = \"\"").fault("authentication-off"), Body::Refusals, &["authentication-bypassed"])]
#[case::startup_hides_the_leak(Plant::new().fault("startup-incomplete").fault("sixth-connection-refused"), Body::Cycles, &["startup-incomplete"])]
#[case::the_way_hides_the_token(Plant::new().mint("token_type = \"\"").stopped(), Body::Login, &["nothing-listens"])]
#[case::the_key_hides_the_secret(Plant::new().env("JWT_SECRET_STAGING", |_| "not-the-secret-of-the-server".to_owned()).env("E2E_OAUTH_SIMULATION_KEY", |_| "not-the-key".to_owned()), Body::Control, &["simulation-key"])]
#[case::the_certificate_hides_the_claim(Plant::new().mint("token_type = \"\"").fault("expired-certificate"), Body::Login, &["certificate-expired"])]
#[case::the_firewall_hides_the_credentials(Plant::new().fault("firewall-403-on-upgrade").fault("auth-link-unreachable"), Body::Socket, &["firewall"])]
#[case::the_stripped_header_and_the_claim(Plant::new().mint("token_type = \"\"").fault("authorization-stripped-on-upgrade"), Body::Socket, &["authorization-lost", "token_type"])]
#[case::environment_and_credentials(Plant::new().fault("service-credentials-wrong").fault("auth-service-down"), Body::Login, &["auth-service-down"])]
#[tokio::test]
async fn of_two_causes_both_are_named_or_the_one_that_hides(#[case] plant: Plant, #[case] body: Body, #[case] causes: &[&str]) {
    demand(plant, body, causes).await;
}
