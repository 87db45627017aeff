//! 005: services, MCP servers and tools can be discovered, complete and available, and all that is advertised is the target's.

use std::collections::BTreeSet;

use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::Value;
use url::Url;

use crate::staging;
use netra_critical::advertised::{Advertised, advertised, foreign};

pub(crate) static CHECK: Check = Check {
    id: 5,
    name: "test_005_agent_discovery_real",
    title: "services, servers and tools can be discovered, and what is advertised is the target's",
    area: Area::Agents,
    impact: "the product looks empty",
    alone: false,
};

const SERVICES: &str = "/api/discovery/services";
const SERVERS: &str = "/api/mcp/servers";
const TOOLS: &str = "/api/mcp/tools";

/// What a server may call itself that can be used now.
const AVAILABLE: [&str; 9] = ["active", "available", "connected", "enabled", "healthy", "ok", "online", "ready", "running"];

#[rstest]
#[test_log::test(tokio::test)]
async fn test_005_agent_discovery_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let anyone = cx.anonymous();
            let (services, servers, tools) =
                tokio::try_join!(anyone.get(SERVICES).send(), anyone.get(SERVERS).send(), anyone.get(TOOLS).send())?;

            services.must("the services can be discovered").json(&[("/services", Is::Object), ("/timestamp", Is::Moment)])?;
            services.must("the services say that they are available").fields(&[("/available", Is::exactly(true))])?;
            for name in ["backend", "frontend", "auth"] {
                let service = &services.json()["services"][name];
                services.must(format!("the service {name} is listed with every field")).fields_of(
                    service,
                    &[
                        ("/port", Is::IntFrom(1)),
                        ("/url", Is::Text),
                        ("/api_url", Is::Present),
                        ("/ws_url", Is::Present),
                        ("/timestamp", Is::Moment),
                    ],
                )?;
            }
            mcp_servers(&servers)?;
            mcp_tools(&tools)?;

            let answers = [&services, &servers, &tools];
            let urls: Vec<_> = answers.iter().flat_map(|answer| advertised(answer.json())).collect();
            let strangers = foreign(cx.target(), &urls);
            cx.must("every advertised URL is on a host of the target").about(answers.map(|answer| answer.exchange)).that(
                strangers.is_empty(),
                "no URL on any other host, nor over another kind of transport",
                format!("{strangers} (not contacted)"),
            )?;
            let (api, ws, auth) = (&cx.target().api, &cx.target().ws, &cx.target().auth);
            for (name, field, own) in
                [("backend", "url", api), ("backend", "api_url", api), ("backend", "ws_url", ws), ("auth", "url", auth)]
            {
                let got = &services.json()["services"][name][field];
                let right = got.as_str().and_then(|text| Url::parse(text).ok()).is_some_and(|url| leads_to(&url, own));
                services.must(format!("the {field} of the service {name} is the target's own")).that(right, own, got)?;
            }
            follow(cx, &urls).await?;

            for path in [SERVICES, SERVERS, TOOLS] {
                let twin = anyone.get(format!("/api{path}")).send().await?;
                twin.must(format!("{path} is not served under a doubled prefix"))
                    .status_and_json(&[404], &[("/detail", Is::Text)])?;
            }

            // The token is optional there: who shows one sees no less.
            let alice = cx.api(&cx.user("alice").await?);
            let (servers, tools) = tokio::try_join!(alice.get(SERVERS).send(), alice.get(TOOLS).send())?;
            servers.must("a signed-in user sees MCP servers too").json(&[("/data", Is::FilledList)])?;
            tools.must("a signed-in user sees MCP tools too").json(&[("/tools", Is::FilledList)])
        })
        .await
}

fn mcp_servers(reply: &Reply) -> Held {
    let servers = reply.must("the MCP servers can be listed").list_at("/data")?;
    reply.must("there is an MCP server").that(!servers.is_empty(), "at least one", "an empty list")?;
    for server in &servers {
        let wanted = [("/name", Is::Text), ("/status", Is::Text), ("/version", Is::Text), ("/description", Is::Text)];
        reply.must("every MCP server has every field").fields_of(server, &wanted)?;
        let capabilities = &server["capabilities"];
        reply.must("every MCP server says what it can do").that(
            capabilities.is_object() || capabilities.is_array(),
            "capabilities, as an object or a list",
            capabilities,
        )?;
        let status = server["status"].as_str().unwrap_or_default().to_lowercase();
        let available = AVAILABLE.contains(&status.as_str());
        reply.must("every MCP server is available").that(available, format!("one of {AVAILABLE:?}"), format!("{status:?}"))?;
    }
    reply.must("no two MCP servers share a name").hold(unique(&servers, "name"))
}

fn mcp_tools(reply: &Reply) -> Held {
    let tools = reply.must("the MCP tools can be listed").list_at("/tools")?;
    reply.must("there is an MCP tool").that(!tools.is_empty(), "at least one", "an empty list")?;
    for tool in &tools {
        reply.must("every MCP tool has a name").fields_of(tool, &[("/name", Is::Text)])?;
    }
    reply.must("no two MCP tools share a name").hold(unique(&tools, "name"))?;
    reply.must("the count of MCP tools is their number").fields(&[("/count", Is::exactly(tools.len()))])?;
    let some = tools.iter().any(|tool| tool["available"] != false);
    reply.must("an MCP tool is available").that(some, "at least one that does not say otherwise", "available: false in each")
}

/// Asks each advertised HTTP URL of the target.
async fn follow(cx: &Cx, urls: &[Advertised]) -> Held {
    let own: BTreeSet<Url> = urls.iter().filter_map(|url| url.own(cx.target())).collect();
    let mut asked = Vec::new();
    for url in &own {
        let callers = [(&cx.target().api, cx.anonymous()), (&cx.target().auth, cx.auth())];
        let caller = callers.into_iter().find(|(base, _)| leads_to(url, base));
        let path = caller.and_then(|(base, caller)| Some((caller, url.path().strip_prefix(base.path().trim_end_matches('/'))?)));
        match path {
            Some((caller, path)) => asked.push(caller.get(path).send().await?),
            None => cx.note(format!("{url} is not asked: 001 dials the target's socket")),
        }
    }
    let silent: Vec<_> = asked.iter().filter(|reply| reply.status >= 500).map(Reply::summary).collect();
    cx.must("every advertised HTTP URL answers").about(asked.iter().map(|reply| reply.exchange)).that(
        !asked.is_empty() && silent.is_empty(),
        "an answer from each, and no 5xx",
        format!("{} asked; {}", asked.len(), silent.join("; ")),
    )
}

/// True for a URL of the same service: for a socket the same URL, for HTTP the same origin.
fn leads_to(url: &Url, own: &Url) -> bool {
    let plain = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
    if own.scheme().starts_with("ws") { plain(url) == plain(own) } else { url.origin() == own.origin() }
}

fn unique(items: &[Value], field: &str) -> Result<(), Mismatch> {
    let mut seen = BTreeSet::new();
    match items.iter().find(|item| !seen.insert(item[field].to_string())) {
        None => Ok(()),
        Some(item) => Err(Mismatch::new(format!("each {field} once"), format!("{} twice", item[field]))),
    }
}
