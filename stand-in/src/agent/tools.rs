//! The tools: what an agent uses, and what `/api/tools/execute` runs. One registry for both.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

type Arguments = Map<String, Value>;

/// One argument of a tool.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) description: &'static str,
}

/// One tool.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) category: &'static str,
    pub(crate) description: &'static str,
    pub(crate) parameters: &'static [Parameter],
    run: fn(&Arguments) -> Result<Value, String>,
}

/// Dollars for a million input tokens.
const PRICES: [(&str, f64); 4] = [("small", 0.15), ("medium", 1.0), ("large", 3.0), ("reasoning", 15.0)];

const fn parameter(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

/// All tools, in the order they are listed.
pub(crate) const TOOLS: [Tool; 3] = [
    Tool {
        name: "calculator",
        category: "math",
        description: "Adds, subtracts, multiplies or divides two numbers.",
        parameters: &[
            parameter("a", "number", "the first number"),
            parameter("b", "number", "the second number"),
            parameter("operation", "string", "one of add, subtract, multiply, divide"),
        ],
        run: calculator,
    },
    Tool {
        name: "text_statistics",
        category: "text",
        description: "Counts the words and characters of a text.",
        parameters: &[parameter("text", "string", "the text to count")],
        run: text_statistics,
    },
    Tool {
        name: "token_cost_estimate",
        category: "cost",
        description: "Estimates what a number of input tokens costs with a class of model.",
        parameters: &[
            parameter("model", "string", "one of small, medium, large, reasoning"),
            parameter("tokens", "integer", "how many tokens, zero or more"),
        ],
        run: token_cost_estimate,
    },
];

/// What came of running a tool, and how long it took.
pub(crate) struct Outcome {
    pub(crate) result: Result<Value, String>,
    pub(crate) took: Duration,
}

/// Runs the tool of this name. The error names what is unknown, missing or wrong.
pub(crate) fn execute(name: &str, arguments: &Arguments) -> Outcome {
    let started = Instant::now();
    let result = match TOOLS.iter().find(|tool| tool.name == name) {
        None => Err(format!("unknown tool '{name}'; GET /api/tools lists those there are")),
        Some(tool) => present(tool, arguments).and_then(|()| (tool.run)(arguments)),
    };
    Outcome { result, took: started.elapsed() }
}

fn present(tool: &Tool, arguments: &Arguments) -> Result<(), String> {
    let missing: Vec<&str> = tool.parameters.iter().map(|p| p.name).filter(|name| !arguments.contains_key(*name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing argument: {}", missing.join(", "))) }
}

fn calculator(arguments: &Arguments) -> Result<Value, String> {
    let (a, b) = (number(arguments, "a")?, number(arguments, "b")?);
    let result = match text(arguments, "operation")? {
        "add" => a + b,
        "subtract" => a - b,
        "multiply" => a * b,
        "divide" if b == 0.0 => return Err("argument 'b' must not be zero in a division".into()),
        "divide" => a / b,
        other => return Err(format!("argument 'operation' must be add, subtract, multiply or divide, not '{other}'")),
    };
    if result.is_finite() { Ok(tidy(result)) } else { Err("the result is too large for a number".into()) }
}

fn text_statistics(arguments: &Arguments) -> Result<Value, String> {
    let text = text(arguments, "text")?;
    Ok(json!({"words": text.split_whitespace().count(), "characters": text.chars().count()}))
}

fn token_cost_estimate(arguments: &Arguments) -> Result<Value, String> {
    let model = text(arguments, "model")?;
    let tokens = number(arguments, "tokens")?;
    if tokens < 0.0 || tokens.fract() != 0.0 {
        return Err("argument 'tokens' must be a whole number, zero or more".into());
    }
    let (_, price) = PRICES
        .iter()
        .find(|(name, _)| *name == model)
        .ok_or_else(|| format!("argument 'model' must be small, medium, large or reasoning, not '{model}'"))?;
    Ok(json!({"model": model, "tokens": tidy(tokens), "usd_per_million": price, "cost_usd": tokens * price / 1_000_000.0}))
}

fn number(arguments: &Arguments, name: &str) -> Result<f64, String> {
    arguments.get(name).and_then(Value::as_f64).ok_or_else(|| format!("argument '{name}' must be a number"))
}

fn text<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, String> {
    arguments.get(name).and_then(Value::as_str).ok_or_else(|| format!("argument '{name}' must be a string"))
}

/// `5` rather than `5.0` where the number is whole and a double holds it exactly.
fn tidy(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9.0e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range of i64")]
        let whole = number as i64;
        return whole.into();
    }
    number.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &Value) -> Result<Value, String> {
        execute(name, arguments.as_object().expect("object")).result
    }

    #[test]
    fn the_result_follows_from_the_arguments() {
        assert_eq!(run("calculator", &json!({"a": 6, "b": 7, "operation": "multiply"})), Ok(json!(42)));
        assert_eq!(run("calculator", &json!({"a": 1, "b": 8, "operation": "divide"})), Ok(json!(0.125)));
        assert_eq!(run("text_statistics", &json!({"text": "größer als"})), Ok(json!({"words": 2, "characters": 10})));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(run("calculator", &json!({"a": 1})).unwrap_err(), "missing argument: b, operation");
        assert!(run("calculator", &json!({"a": "1", "b": 2, "operation": "add"})).unwrap_err().contains("'a'"));
        assert!(run("calculator", &json!({"a": 1, "b": 0, "operation": "divide"})).unwrap_err().contains("zero"));
        assert!(run("no_such_tool", &json!({})).unwrap_err().contains("no_such_tool"));
    }
}
