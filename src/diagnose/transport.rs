//! The way to the service, step by step: name, connection, TLS, and what stands in front of it.

use url::Url;

use super::lab::Lab;
use super::rules::{header, is_html};
use super::{Cause, Side};
use crate::config::{Deadlines, Target};
use crate::dial::connect;
use crate::exchange::{Exchange, Timing};
use crate::expect::Class;
use crate::{io, poll};

/// The steps of one connection: how long each took, or the step that failed.
pub(crate) async fn steps(lab: &Lab<'_>, url: &Url) -> Result<Timing, String> {
    let deadline = Deadlines::of(lab.cx.settings().deadlines.connect_ms);
    let connected = poll::within(deadline, io::run(connect(url.clone(), std::sync::Arc::clone(&lab.cx.suite.ws_tls)))).await;
    match connected {
        Some(Ok((_, timing, ..))) => Ok(timing),
        Some(Err(error)) => Err(error),
        None => Err(format!("connecting: no answer within {} ms", deadline.as_millis())),
    }
}

/// The target's address that an exchange spoke to.
fn address<'a>(target: &'a Target, exchange: &Exchange) -> (&'a Url, &'static str) {
    let host = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    let asked = Url::parse(&exchange.url).ok();
    let all = [(&target.api, "CRITICAL_API_URL"), (&target.auth, "CRITICAL_AUTH_URL"), (&target.ws, "CRITICAL_WS_URL")];
    let secure = |url: &Url| matches!(url.scheme(), "ws" | "wss");
    let found =
        all.into_iter().find(|(own, _)| asked.as_ref().is_some_and(|it| host(it) == host(own) && secure(it) == secure(own)));
    found.unwrap_or((&target.api, "CRITICAL_API_URL"))
}

/// Goes the way again, and names the step that fails.
pub(crate) async fn examine(lab: &mut Lab<'_>, exchange: &Exchange) -> Vec<Cause> {
    let target = lab.cx.target().clone();
    let (url, variable) = address(&target, exchange);
    if let Err(failed) = steps(lab, url).await {
        return vec![of_step(&failed, url, variable).shown_in([exchange.id])];
    }
    let id = exchange.id;
    let cause = if is_html(exchange) || (exchange.status.is_some() && header(exchange, "x-trace-id").is_empty()) {
        let status = exchange.status.unwrap_or_default();
        let page = if is_html(exchange) { "a page of HTML" } else { "an answer without x-trace-id" };
        let (name, who) = match status {
            403 | 406 | 429 => ("firewall", "a firewall or gateway refuses the request"),
            502 | 504 => ("gateway", "the gateway is up and the service behind it is not"),
            503 => ("gateway-not-ready", "the gateway has no instance of the service that is ready"),
            _ => ("gateway", "something in front of the service answers in its place"),
        };
        let change =
            "the gateway or firewall before the service (its rules for this route and this client), then the service behind it";
        Cause::new(name, Class::Transport, Side::Between, format!("{who}: #{id} is {status} with {page}"), change)
    } else if url == &target.auth {
        return super::service::auth_service(lab, exchange).await;
    } else {
        let error = exchange.error.as_deref().unwrap_or("cut without a close frame");
        if error.contains("until the deadline") || error.contains("no answer to the upgrade") {
            let what = format!("the connection stands, name, TCP and TLS are sound, and #{id} was never answered: {error}");
            let change = "the service's process, if it hangs; or the proxy in front of it, if it holds requests back";
            return vec![Cause::new("no-answer", Class::Transport, Side::Between, what, change).shown_in([id])];
        }
        let what = format!("name, TCP and TLS are sound now, and #{id} broke on the way: {error}");
        let change = "the service's process (a crash, a restart) or the proxy that cuts connections: its log at that moment";
        Cause::new("connection-cut", Class::Transport, Side::Between, what, change)
    };
    vec![cause.shown_in([id])]
}

/// From the text of a failed step to its cause.
pub(crate) fn of_step(failed: &str, url: &Url, variable: &str) -> Cause {
    let host = url.host_str().unwrap_or_default();
    let correct = format!("{variable}, or the URL in staging.toml");
    let has = |part: &str| failed.contains(part);
    let (name, side, what, change): (_, _, &str, String) = if failed.starts_with("DNS") {
        ("dns", Side::Ours, "the name of the host is not known", format!("{correct}: the host {host}; or this machine's DNS"))
    } else if has("refused") {
        (
            "nothing-listens",
            Side::Theirs,
            "nothing listens at this address",
            format!("start the service there, or correct {correct}"),
        )
    } else if has("Expired") || has("expired") {
        ("certificate-expired", Side::Theirs, "the server's certificate has expired", format!("renew the certificate of {host}"))
    } else if has("NotValidForName") || has("not valid for name") {
        let change = format!("a certificate with the name {host} for the server; or {correct}");
        ("certificate-name", Side::Theirs, "the server's certificate is for another name", change)
    } else if has("UnknownIssuer") || has("BadSignature") {
        let change = "CRITICAL_CA_FILE with the CA of this server, if it is yours; else somebody sits in between".to_owned();
        ("certificate-untrusted", Side::Ours, "the issuer of the server's certificate is not trusted", change)
    } else if has("certificate") {
        ("certificate", Side::Theirs, "the server's certificate is not sound", format!("the certificate of {host}"))
    } else if failed.starts_with("TLS") {
        let change = format!("TLS of the server at {host}, or the scheme in {correct}");
        ("tls", Side::Between, "the server does not speak TLS that we can use", change)
    } else {
        let change = format!("the route to {host} (VPN, firewall, address); or {correct}");
        ("no-connection", Side::Between, "no connection can be made", change)
    };
    Cause::new(name, Class::Transport, side, format!("{what}: {failed}"), change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_step_is_named() {
        let url = Url::parse("https://api.example.test").expect("a URL");
        for (text, name) in [
            ("DNS lookup of api.example.test failed: no such host", "dns"),
            ("TCP connection to api.example.test:443 failed: Connection refused (os error 111)", "nothing-listens"),
            (
                "TLS handshake with x failed: invalid peer certificate: certificate expired: verification time 2",
                "certificate-expired",
            ),
            ("TLS handshake with x failed: invalid peer certificate: certificate not valid for name \"a\"", "certificate-name"),
            ("TLS handshake with x failed: invalid peer certificate: UnknownIssuer", "certificate-untrusted"),
            ("TLS handshake with x failed: invalid peer certificate: BadSignature", "certificate-untrusted"),
            ("TLS handshake with x failed: received corrupt message of type InvalidContentType", "tls"),
            ("connecting: no answer within 10 ms", "no-connection"),
        ] {
            assert_eq!(of_step(text, &url, "CRITICAL_API_URL").name, name, "{text}");
        }
    }
}
