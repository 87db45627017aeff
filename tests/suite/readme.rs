//! README.md says what is so: the settings and the table of the 25.

use std::collections::BTreeSet;

use netra_critical::config::Settings;

const README: &str = include_str!("../../README.md");

/// The first cells of the table under a heading, without their backticks.
fn first_cells(heading: &str) -> Vec<Vec<String>> {
    let section = README.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("README has no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()).collect()
}

#[test]
fn the_settings_table_has_every_key_and_no_other() {
    let toml::Value::Table(settings) = toml::Value::try_from(Settings::default()).expect("settings are TOML") else {
        unreachable!("a table")
    };
    let mut keys = BTreeSet::from(["ca_file".to_owned()]);
    for (key, value) in settings {
        match value.as_table().filter(|section| !section.is_empty()) {
            Some(section) => keys.extend(section.keys().map(|inner| format!("{key}.{inner}"))),
            None => drop(keys.insert(key)),
        }
    }
    let shown: BTreeSet<_> = first_cells("Settings").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(shown, keys);
}

#[test]
fn the_table_of_checks_is_what_the_files_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/critical");
    let mut wanted = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the checks") {
        let path = file.expect("a file").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "main" {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("source");
        let field = |key: &str| {
            let line = source.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: \""))).unwrap_or_default();
            line.trim_end_matches("\",").to_owned()
        };
        assert_eq!(field("name"), name, "a file carries the name of its check");
        assert!(source.contains(&format!("async fn {name}(")), "and so does its function");
        wanted.insert(vec![name, field("title"), field("impact")]);
    }
    assert_eq!(first_cells("The 25 checks").into_iter().collect::<BTreeSet<_>>(), wanted);
}
