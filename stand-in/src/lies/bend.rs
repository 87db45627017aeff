//! The language of bends.
//!
//! ```text
#![doc = include_str!("bends.txt")]
//! ```

use serde_json::Value;

/// The language, for a person at a terminal.
pub const BENDS: &str = include_str!("bends.txt");

/// A parsed bend; its text is its name.
#[derive(Clone, Debug)]
pub(super) struct Bend {
    pub(super) text: String,
    pub(super) place: Place,
    nth: Nth,
    conditions: Vec<Condition>,
    pub(super) deeds: Vec<Deed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Http { service: &'static str, method: String, path: String, parameter: Option<(String, Option<String>)> },
    Frame(String),
    Streamed(String),
    Sent(String),
    Run,
}

#[derive(Clone, Copy, Debug)]
enum Nth {
    Every,
    Only(u64),
    From(u64),
}

#[derive(Clone, Debug)]
struct Condition {
    pointer: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    There,
    Absent,
    Is(Value),
    IsNot(Value),
    Contains(String),
    Less(f64),
    More(f64),
}

#[derive(Clone, Debug)]
pub(super) enum Deed {
    Answers(u16, Option<String>),
    AsFirstUser,
    AsNobody,
    Asks(Change),
    Status(u16),
    Header(String, Option<String>),
    HeaderBefore(String),
    Text(String),
    Late(u64),
    Never,
    Dropped,
    Twice,
    Close(u16),
    Cut,
    Also(Value),
    AfterNext,
    Change(Change),
}

/// A change of a JSON document, at a pointer.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Set(String, Value),
    Remove(String),
    Add(String, Value),
    From(String, String),
    Before(String),
    Twice(String),
    Reversed(String),
}

impl Bend {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (head, deeds) = text.split_once(": ").ok_or("': ' between place and deed is missing")?;
        let (head, conditions) = match head.split_once(" when ") {
            Some((head, all)) => (head, all.split(" and ").map(condition_of).collect::<Result<_, _>>()?),
            None => (head, Vec::new()),
        };
        let (place, nth) = match head.rsplit_once(" #") {
            Some((place, nth)) => (place, nth_of(nth)?),
            None => (head, Nth::Every),
        };
        let deeds = deeds.split("; ").map(deed).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), place: place_of(place)?, nth, conditions, deeds })
    }

    /// True if the document fits all conditions.
    pub(super) fn fits(&self, document: &Value) -> bool {
        self.conditions.iter().all(|condition| condition.holds(document))
    }

    /// True for this time of those that fit, counted from 1.
    pub(super) fn strikes(&self, time: u64) -> bool {
        match self.nth {
            Nth::Every => true,
            Nth::Only(nth) => time == nth,
            Nth::From(nth) => time >= nth,
        }
    }
}

impl Condition {
    fn holds(&self, document: &Value) -> bool {
        let value = document.pointer(&self.pointer);
        let number = || value.and_then(Value::as_f64);
        match &self.test {
            Test::There => value.is_some_and(|value| !value.is_null()),
            Test::Absent => value.is_none_or(Value::is_null),
            Test::Is(wanted) => value == Some(wanted),
            Test::IsNot(wanted) => value != Some(wanted),
            Test::Contains(text) => value.is_some_and(|value| value.to_string().contains(text)),
            Test::Less(limit) => number().is_some_and(|number| number < *limit),
            Test::More(limit) => number().is_some_and(|number| number > *limit),
        }
    }
}

impl Change {
    /// Changes the document; `before` is the same document the last time, as it honestly was.
    pub(super) fn apply(&self, document: &mut Value, before: Option<&Value>) {
        match self {
            Self::Set(pointer, value) => places(document, pointer).into_iter().for_each(|at| set(document, &at, value.clone())),
            Self::Remove(pointer) => places(document, pointer).into_iter().rev().for_each(|at| remove(document, &at)),
            Self::Add(pointer, value) => {
                for at in places(document, pointer) {
                    document.pointer_mut(&at).into_iter().for_each(|old| add(old, value));
                }
            }
            Self::From(pointer, source) => {
                let source = places(document, source).first().and_then(|at| document.pointer(at)).cloned();
                let value = source.unwrap_or_default();
                for at in places(document, pointer) {
                    set(document, &at, value.clone());
                }
            }
            Self::Before(pointer) => {
                let Some(value) = before.and_then(|before| before.pointer(places(before, pointer).first()?)) else { return };
                for at in places(document, pointer) {
                    set(document, &at, value.clone());
                }
            }
            Self::Twice(pointer) => {
                for at in places(document, pointer).into_iter().rev() {
                    let item = document.pointer(&at).cloned().unwrap_or_default();
                    let Some((list, index)) = at.rsplit_once('/') else { continue };
                    let (list, index) = (document.pointer_mut(list).and_then(Value::as_array_mut), index.parse());
                    if let (Some(list), Ok(index)) = (list, index) {
                        list.insert(index, item);
                    }
                }
            }
            Self::Reversed(pointer) => {
                for at in places(document, pointer) {
                    document.pointer_mut(&at).and_then(Value::as_array_mut).into_iter().for_each(|list| list.reverse());
                }
            }
        }
    }
}

/// The pointers that one with `*` and `last` stands for in this document.
pub(super) fn places(document: &Value, pointer: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for segment in pointer.split('/').skip(1) {
        let items = |at: &String| document.pointer(at).and_then(Value::as_array).map_or(0, Vec::len);
        all = all
            .iter()
            .flat_map(|at| match segment {
                "*" => (0..items(at)).map(|index| format!("{at}/{index}")).collect(),
                "last" => items(at).checked_sub(1).map(|index| format!("{at}/{index}")).into_iter().collect(),
                name => vec![format!("{at}/{name}")],
            })
            .collect();
    }
    all
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    if let Some(at) = document.pointer_mut(pointer) {
        *at = value;
    } else if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(Value::Object(parent)) = document.pointer_mut(parent)
    {
        parent.insert(name.to_owned(), value);
    }
}

fn remove(document: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    match document.pointer_mut(parent) {
        Some(Value::Object(parent)) => drop(parent.remove(name)),
        Some(Value::Array(list)) if name.parse().is_ok_and(|index: usize| index < list.len()) => {
            drop(list.remove(name.parse().unwrap_or_default()));
        }
        _ => {}
    }
}

fn add(old: &mut Value, more: &Value) {
    match (old, more) {
        (Value::Array(list), more) => list.push(more.clone()),
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (old @ Value::Number(_), Value::Number(more)) => {
            let whole = old.as_i64().zip(more.as_i64()).map(|(a, b)| Value::from(a.saturating_add(b)));
            let sum = || Value::from(old.as_f64().unwrap_or_default() + more.as_f64().unwrap_or_default());
            *old = whole.unwrap_or_else(sum);
        }
        _ => {}
    }
}

fn nth_of(text: &str) -> Result<Nth, String> {
    let wrong = |_| format!("'#{text}' is no ordinal; write #2 or #2+");
    match text.strip_suffix('+') {
        Some(number) => number.parse().map(Nth::From).map_err(wrong),
        None => text.parse().map(Nth::Only).map_err(wrong),
    }
}

fn place_of(text: &str) -> Result<Place, String> {
    let (service, place) = text.strip_prefix("auth ").map_or(("api", text), |rest| ("auth", rest));
    match place.split_once(' ') {
        _ if place == "run" => Ok(Place::Run),
        Some(("frame", kind)) => Ok(Place::Frame(kind.to_owned())),
        Some(("streamed", kind)) => Ok(Place::Streamed(kind.to_owned())),
        Some(("sent", kind)) => Ok(Place::Sent(kind.to_owned())),
        Some((method @ ("GET" | "POST" | "PUT" | "DELETE"), target)) if target.starts_with('/') => {
            let (path, parameter) = target.split_once('?').map_or((target, None), |(path, pair)| (path, Some(pair)));
            let parameter = parameter.map(|pair| match pair.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (pair.to_owned(), None),
            });
            Ok(Place::Http { service, method: method.to_owned(), path: path.to_owned(), parameter })
        }
        _ => Err(format!("'{text}' is no place: a request such as 'GET /api/threads', 'frame …', 'streamed …', 'sent …' or 'run'")),
    }
}

fn condition_of(text: &str) -> Result<Condition, String> {
    let wrong = || format!("'{text}' is no condition: /pointer, !/pointer, or /pointer with =, !=, ~, < or > and a value");
    if let Some(pointer) = text.strip_prefix('!') {
        return Ok(Condition { pointer: pointer.to_owned(), test: Test::Absent });
    }
    if !text.starts_with('/') {
        return Err(wrong());
    }
    let Some(at) = text.find(['=', '!', '~', '<', '>']) else {
        return Ok(Condition { pointer: text.to_owned(), test: Test::There });
    };
    let (pointer, operation) = text.split_at(at);
    let number = |text: &str| text.parse::<f64>().map_err(|_| wrong());
    let wanted = match operation.split_at(1) {
        ("=", value) => Test::Is(json_or_text(value)),
        ("!", value) => Test::IsNot(json_or_text(value.strip_prefix('=').ok_or_else(wrong)?)),
        ("~", text) => Test::Contains(text.to_owned()),
        ("<", limit) => Test::Less(number(limit)?),
        (_, limit) => Test::More(number(limit)?),
    };
    Ok(Condition { pointer: pointer.to_owned(), test: wanted })
}

fn deed(text: &str) -> Result<Deed, String> {
    let wrong = || format!("'{text}' is no deed");
    let status = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match (verb, rest) {
        ("answers", rest) => match rest.split_once(' ') {
            Some((code, body)) => Deed::Answers(status(code)?, Some(body.to_owned())),
            None => Deed::Answers(status(rest)?, None),
        },
        ("as", "the first user") => Deed::AsFirstUser,
        ("as", "nobody") => Deed::AsNobody,
        ("asks", change) => Deed::Asks(change_of(change).ok_or_else(wrong)?),
        ("status", code) => Deed::Status(status(code)?),
        ("header", rest) => match (rest.split_once(" = "), rest.strip_suffix(" as before")) {
            (Some((name, value)), _) => Deed::Header(name.to_owned(), Some(value.to_owned())),
            (_, Some(name)) => Deed::HeaderBefore(name.to_owned()),
            _ => return Err(wrong()),
        },
        ("without", rest) if rest.starts_with("header ") => Deed::Header(rest.replacen("header ", "", 1), None),
        ("text", text) => Deed::Text(text.to_owned()),
        ("late", number) => Deed::Late(number.parse().map_err(|_| wrong())?),
        ("never", "") => Deed::Never,
        ("dropped", "") => Deed::Dropped,
        ("twice", "") => Deed::Twice,
        ("close", code) => Deed::Close(status(code)?),
        ("cut", "") => Deed::Cut,
        ("also", json) => Deed::Also(serde_json::from_str(json).map_err(|_| wrong())?),
        ("after", "the next") => Deed::AfterNext,
        _ => Deed::Change(change_of(text).ok_or_else(wrong)?),
    })
}

fn change_of(text: &str) -> Option<Change> {
    if let Some(pointer) = text.strip_prefix("without /") {
        return Some(Change::Remove(format!("/{pointer}")));
    }
    let (pointer, rest) = text.split_once(' ')?;
    // The whole document has the empty pointer, which cannot be seen: it is written as a slash.
    let pointer = if pointer == "/" { String::new() } else { pointer.strip_prefix('/').map(|rest| format!("/{rest}"))? };
    let json = |text: &str| serde_json::from_str(text).ok();
    Some(match rest.split_once(' ').unwrap_or((rest, "")) {
        ("=", value) => Change::Set(pointer, json(value)?),
        ("+=", value) => Change::Add(pointer, json(value)?),
        ("from", source) => Change::From(pointer, source.to_owned()),
        ("as", "before") => Change::Before(pointer),
        ("twice", "") => Change::Twice(pointer),
        ("reversed", "") => Change::Reversed(pointer),
        _ => return None,
    })
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(deed: &str, mut document: Value) -> Value {
        let before = json!({"list": [7], "n": 9});
        change_of(deed).expect("a change").apply(&mut document, Some(&before));
        document
    }

    #[test]
    fn changes_change_what_they_name() {
        let document = || json!({"list": [{"n": 1}, {"n": 2}], "n": 1, "text": "a"});
        assert_eq!(changed("/list/*/n = 5", document())["list"], json!([{"n": 5}, {"n": 5}]));
        assert_eq!(changed("/new = null", document()).as_object().map(serde_json::Map::len), Some(4));
        assert_eq!(changed("without /list/last", document())["list"], json!([{"n": 1}]));
        assert_eq!(changed("without /list/*", document())["list"], json!([]));
        assert_eq!(changed("/n += 2", document())["n"], json!(3));
        assert_eq!(changed("/text += \"b\"", document())["text"], json!("ab"));
        assert_eq!(changed("/list += 3", document())["list"][2], json!(3));
        assert_eq!(changed("/list/0/n from /list/last/n", document())["list"], json!([{"n": 2}, {"n": 2}]));
        assert_eq!(changed("/n as before", document())["n"], json!(9));
        assert_eq!(changed("/list/0 twice", document())["list"], json!([{"n": 1}, {"n": 1}, {"n": 2}]));
        assert_eq!(changed("/list reversed", document())["list"], json!([{"n": 2}, {"n": 1}]));
        assert_eq!(changed("/ = []", document()), json!([]));
    }

    #[test]
    fn conditions_look_at_the_document() {
        let holds = |text: &str| condition_of(text).expect("a condition").holds(&json!({"a": {"b": 2, "c": "x y", "d": null}}));
        for text in ["/a", "/a/b=2", "/a/c=x y", "!/a/d", "!/z", "/a/b!=3", "/a/c~x", "/a/b<3", "/a/b>1"] {
            assert!(holds(text), "{text}");
        }
        for text in ["/a/d", "!/a", "/a/b=3", "/a/b!=2", "/a/c~z", "/a/b<2", "/a/b>2", "/z>1"] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn a_bend_is_read_whole_or_refused_by_name() {
        let bend =
            Bend::parse("GET /api/chat/messages?limit=5 #2+ when /token/alg=none and !/query/x: status 201; /a = {\"b\": 1}");
        let bend = bend.expect("a bend");
        assert!(!bend.strikes(1) && bend.strikes(2) && bend.strikes(3));
        assert_eq!(bend.deeds.len(), 2);
        for (text, why) in [
            ("nothing", "missing"),
            ("GET threads: dropped", "no place"),
            ("frame pong #x: dropped", "no ordinal"),
            ("frame pong when a=b: dropped", "no condition"),
            ("frame pong: vanishes", "no deed"),
            ("frame pong: /a = {", "no deed"),
        ] {
            let error = Bend::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
