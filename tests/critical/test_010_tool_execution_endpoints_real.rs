//! 010: tools are listed as they are, run for users only, and their results follow from their arguments.

use std::collections::BTreeSet;

use netra_critical::exchange::ms;
use netra_critical::expect::Trouble;
use netra_critical::identity::Credential;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 10,
    name: "test_010_tool_execution_endpoints_real",
    title: "tools are listed and do what they are told",
    area: Area::Agents,
    impact: "agents cannot act",
    alone: false,
};

const LIST: &str = "/api/tools";
const EXECUTE: &str = "/api/tools/execute";

#[rstest]
#[test_log::test(tokio::test)]
async fn test_010_tool_execution_endpoints_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let tool = cx.settings().tool.name.as_str();
            let probes = cx.settings().tool.probes().map_err(|error| Trouble::suite(error.what, error.remedy))?;
            let alice = cx.user("alice").await?;
            let api = cx.api(&alice);

            let list = api.get(LIST).send().await?;
            let tools = listed(&list)?;
            let ours = tools.into_iter().filter(|entry| entry["tool_name"] == tool).collect();
            let ours = list.must("the tool of the settings is listed, once").one(ours, format!("tool {tool:?}"))?;
            list.must("the tool of the settings is available").fields_of(&ours, &[("/available", Is::exactly(true))])?;

            let mut results = Vec::new();
            for ((arguments, expected), which) in probes.iter().zip(["first", "second"]) {
                let call = json!({"tool_name": tool, "arguments": arguments});
                let reply = api.post(EXECUTE, call).within(cx.run_deadline()).send().await?;
                results.push(result(&reply, tool, which, expected)?);
            }
            cx.must("two sets of arguments give two results").that(results[0] != results[1], "two results", &results[0])?;

            // An error is told in the answer or by its status; either way it says what is wrong.
            let unknown = format!("no-such-tool-{}", cx.word());
            let reply = api.post(EXECUTE, json!({"tool_name": unknown, "arguments": {}})).send().await?;
            reply
                .must("an unknown tool is an error that says so")
                .hold(is_error(&reply, &[&unknown, "unknown", "not found", "no such", "not exist"]))?;
            let mut words = vec!["missing", "required"];
            words.extend(probes[0].0.as_object().into_iter().flat_map(|arguments| arguments.keys().map(String::as_str)));
            let reply = api.post(EXECUTE, json!({"tool_name": tool, "arguments": {}})).send().await?;
            reply.must("a missing argument is an error that says so").hold(is_error(&reply, &words))?;
            let call = json!({"tool_name": tool, "arguments": probes[0].0});
            let reply = api.post(EXECUTE, json!({"arguments": probes[0].0})).send().await?;
            reply.must("a missing tool_name is invalid").invalid("tool_name")?;

            let anyone = cx.anonymous();
            let reply = anyone.get(LIST).send().await?;
            reply.must("tools are not listed without a token").refused(&[401, 403])?;
            let reply = anyone.post(EXECUTE, call.clone()).send().await?;
            reply.must("a tool does not run without a token").refused(&[401, 403])?;
            let reply = cx.api(Credential::forged(&alice)).get(LIST).send().await?;
            reply.must("tools are not listed for a forged token").refused(&[401])?;
            let reply = cx.api(Credential::forged(&alice)).post(EXECUTE, call).send().await?;
            reply.must("a tool does not run for a forged token").refused(&[401])
        })
        .await
}

fn listed(list: &Reply) -> Held<Vec<Value>> {
    let tools = list.must("the tools can be listed").list_at("/tools")?;
    list.must("there is a tool").that(!tools.is_empty(), "at least one", "an empty list")?;
    for tool in &tools {
        list.must("every tool is listed with every field").fields_of(
            tool,
            &[("/tool_name", Is::Text), ("/category", Is::Text), ("/description", Is::Text), ("/available", Is::Bool)],
        )?;
    }
    let names: BTreeSet<_> = tools.iter().map(|tool| tool["tool_name"].to_string()).collect();
    list.must("no two tools share a name").that(
        names.len() == tools.len(),
        format!("{} names", tools.len()),
        format!("{names:?}"),
    )?;
    let available = tools.iter().filter(|tool| tool["available"] == true).count();
    list.must("total_tools is the number of tools").fields(&[("/total_tools", Is::exactly(tools.len()))])?;
    list.must("available_tools is the number of available tools").fields(&[("/available_tools", Is::exactly(available))])?;
    let categories = names_in(&list.json()["categories"]);
    for tool in &tools {
        let category = tool["category"].as_str().unwrap_or_default();
        let there = categories.iter().any(|name| name == category);
        list.must("every tool's category exists").that(
            there,
            format!("{category:?} among the categories"),
            format!("{categories:?}"),
        )?;
    }
    Ok(tools)
}

/// Categories are a list of names, a list of objects with a name, or an object by name: the contract leaves that open.
fn names_in(categories: &Value) -> Vec<String> {
    let of_item = |item: &Value| item.as_str().or(item["name"].as_str()).unwrap_or_default().to_owned();
    match categories {
        Value::Array(items) => items.iter().map(of_item).collect(),
        Value::Object(items) => items.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Wants the result that follows from the arguments.
fn result(reply: &Reply, tool: &str, which: &str, expected: &str) -> Held<String> {
    let success = [("/status", Is::exactly("success")), ("/tool_name", Is::exactly(tool))];
    reply.must(format!("the {which} call of the tool succeeds")).status_and_json(&[200], &success)?;
    let times = [("/execution_time_ms", Is::Within(0.0, ms(reply.elapsed))), ("/timestamp", Is::Moment)];
    reply.must(format!("the {which} call says when it was and how long it took")).fields(&times)?;
    let result = &reply.json()["result"];
    let text = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
    reply.must(format!("the result of the {which} call follows from its arguments")).that(
        !result.is_null() && text.contains(expected),
        format!("a result with {expected:?}"),
        reply.summary(),
    )?;
    Ok(text)
}

/// Wants an error whose text has one of these words: `status: "error"` in a 200, or a 4xx of the API. Never a result.
fn is_error(reply: &Reply, words: &[&str]) -> Result<(), Mismatch> {
    let body = reply.json();
    let text = match reply.status {
        200 if body["status"] == "error" && body["result"].is_null() => &body["error"],
        422 if body["detail"].is_array() => &body["detail"],
        400 | 404 | 422 if body["error"] == true => &body["message"],
        _ => &Value::Null,
    };
    let text = text.to_string().to_lowercase();
    if words.iter().any(|word| text.contains(&word.to_lowercase())) {
        return Ok(());
    }
    Err(Mismatch::new(format!("status \"error\" or a 4xx, whose text has one of {words:?}"), reply.summary()))
}
