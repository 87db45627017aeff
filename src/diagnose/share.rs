//! One search for the whole run: the first check that needs it makes it, the others cite it, also across processes.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::Findings;
use crate::context::Cx;
use crate::evidence::write_whole;
use crate::poll;

/// How long a check waits for the search of another one.
const PATIENCE: Duration = Duration::from_secs(40);

/// Makes the search of this name, or gives what another check of the run found. What is cited speaks of that check's exchanges.
pub(crate) async fn once(cx: &Cx, name: &str, search: impl Future<Output = Findings>) -> Result<Findings, String> {
    let folder = cx.suite.folder.path.join("diagnosis");
    let cannot = |error: std::io::Error| format!("{} cannot be used: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    let result: PathBuf = folder.join(format!("{name}.json"));
    let lock =
        File::options().create(true).truncate(false).write(true).open(folder.join(format!(".{name}.lock"))).map_err(cannot)?;
    let _waiting = cx.recorder().waiting(format!("the search of another check ({name})"));
    let held = poll::until(PATIENCE, Duration::from_millis(10), async || lock.try_lock().map_err(drop)).await;
    held.map_err(|()| format!("another check was still searching after {} s", PATIENCE.as_secs()))?;
    if let Ok(text) = std::fs::read(&result) {
        let found: Findings = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", result.display()))?;
        return Ok(if found.made_by == cx.check.name { found } else { cited(found) });
    }
    let found = search.await;
    write_whole(&result, &found).map_err(cannot)?;
    Ok(found)
}

/// The findings of another check: its exchanges are named with its number.
fn cited(mut found: Findings) -> Findings {
    let check: String = found.made_by.trim_start_matches("test_").chars().take_while(char::is_ascii_digit).collect();
    let by = |text: &mut String| *text = naming(&check, text);
    for cause in &mut found.causes {
        cause.evidence.iter_mut().chain([&mut cause.what, &mut cause.change]).for_each(by);
    }
    found.trials.iter_mut().for_each(|trial| by(&mut trial.exchange));
    found.excluded.iter_mut().for_each(by);
    found
}

/// `#12` becomes `002#12`.
fn naming(check: &str, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('#') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if from[1..].starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str(check);
        }
        out.push('#');
        rest = &from[1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_of_another_check_carry_its_number() {
        assert_eq!(naming("002", "refused (#4), #12 says; C# and #x"), "refused (002#4), 002#12 says; C# and #x");
    }
}
