//! The proof that every green can go red: each fault of the stand-in is planted, the built `critical` binary is run against it as
//! users run it, and the checks that the table of expected kills names must fail at the expectations that it names.
//!
//! `cargo proof --help` says what can be asked of it.
//!
//! Verdicts and broken expectations are read from the evidence. *Errored* and *timed out* are no kills: a check must say that
//! the service is wrong. The matrix is left in `target/critical/proof/`.

use std::process::ExitCode;
use std::time::Instant;

use netra_critical::Verdict;
use netra_stand_in::{BENDS, faults};

use crate::judge::{Findings, line, write_matrix};
use crate::plant::{Ground, Job, Run};
use crate::table::Table;

#[path = "../suite/built.rs"]
mod built;
mod judge;
mod plant;
mod table;

const USAGE: &str = "\
cargo proof                        all of it
cargo proof --check 016            one check with all of its faults
cargo proof FAULT [CHECK…]         one fault, told in full: replays a cell of the matrix
cargo proof FAULT --times 200      all checks so many times: for the controls, which must turn nothing red
cargo proof --list                 names of the faults, and how to bend one place of the wire";

fn main() -> ExitCode {
    match proof(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("proof: {error}");
            ExitCode::FAILURE
        }
    }
}

fn proof(arguments: &[String]) -> Result<ExitCode, String> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    if matches!(words.first(), Some(&("--help" | "-h"))) {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    if words == ["--list"] {
        faults().for_each(|fault| println!("{}: {} {:?}", fault.name, fault.what, fault.kills));
        println!("\n{BENDS}");
        return Ok(ExitCode::SUCCESS);
    }
    let table = Table::read()?;
    let ground = Ground::prepare(built::critical())?;
    match words.as_slice() {
        [] => whole(&ground, &table, None),
        ["--check", check] => whole(&ground, &table, Some(number(check)?)),
        [fault, "--times", times] => {
            let times = times.parse().map_err(|_| format!("--times {times} is no number"))?;
            repeat(&ground, known(fault)?, times)
        }
        [option, ..] if option.starts_with('-') => Err(format!("{option} is no option\n{USAGE}")),
        [fault, checks @ ..] => replay(&ground, &table, known(fault)?, checks),
    }
}

fn number(check: &str) -> Result<u16, String> {
    check.trim_start_matches("test_").parse().map_err(|_| format!("{check:?} is no number of a check"))
}

/// A name of the catalogue, or what may be a bend: whether it is one, the stand-in says when it starts.
fn known(fault: &str) -> Result<&str, String> {
    let known = faults().any(|it| it.name == fault) || fault.contains(": ");
    known
        .then_some(fault)
        .ok_or_else(|| format!("there is no fault {fault:?}: `cargo proof --list` names them all, and how to bend one place"))
}

/// One fault, told in full.
fn replay(ground: &Ground, table: &Table, fault: &str, checks: &[&str]) -> Result<ExitCode, String> {
    let mut checks = checks.iter().map(|check| number(check)).collect::<Result<Vec<_>, _>>()?;
    if checks.is_empty() {
        let known = table.jobs(None).into_iter().find(|job| job.fault.as_deref() == Some(fault));
        checks = known.map(|job| job.checks).unwrap_or_default();
    }
    let run = ground.run(&Job { fault: Some(fault.to_owned()), checks })?;
    println!("{}", std::fs::read_to_string(&run.output).unwrap_or_default());
    println!("{fault}: {}", faults().find(|it| it.name == fault).map_or("a bend", |it| it.what));
    run.evidence.iter().for_each(|it| println!("  {}", line(it)));
    let red = run.evidence.iter().all(|it| it.verdict == Verdict::Failed);
    Ok(if red { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All checks, so many times: nothing may turn red.
fn repeat(ground: &Ground, fault: &str, times: usize) -> Result<ExitCode, String> {
    let job = Job { fault: Some(fault.to_owned()), checks: Vec::new() };
    let mut alarms = 0;
    for run in ground.all(&vec![job; times]) {
        let run = run?;
        for red in run.evidence.iter().filter(|it| it.verdict != Verdict::Passed) {
            alarms += 1;
            println!("false alarm  {} ({})", line(red), run.output.display());
        }
        if run.evidence.len() != run.listed {
            let (left, all) = (run.evidence.len(), run.listed);
            return Err(format!("{left} of {all} checks left evidence ({})", run.output.display()));
        }
    }
    println!("{times} runs under {fault}: {alarms} false alarms");
    Ok(if alarms == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Baseline, every fault against the checks that must fail, and every fault of the catalogue against all.
fn whole(ground: &Ground, table: &Table, only: Option<u16>) -> Result<ExitCode, String> {
    let started = Instant::now();
    let sound = ground.run(&Job { fault: None, checks: only.into_iter().collect() })?;
    let red: Vec<_> = sound.evidence.iter().filter(|it| it.verdict != Verdict::Passed).map(line).collect();
    if sound.evidence.len() != only.map_or(sound.listed, |_| 1) || !red.is_empty() {
        let ran = sound.evidence.len();
        return Err(format!("the baseline is not sound, so nothing can be proven: {ran} checks ran; {}", red.join("; ")));
    }
    println!("baseline: {} passed ({:.1} s)", sound.evidence.len(), started.elapsed().as_secs_f64());
    Findings::self_test(table, &sound)?;
    let mut troubles = Vec::new();
    let mut planted = |jobs: &[Job]| -> Vec<Run> {
        let runs = ground.all(jobs).into_iter();
        runs.filter_map(|run| run.map_err(|error| troubles.push(format!("trouble     {error}"))).ok()).collect()
    };
    let kills = planted(&table.jobs(only));
    let mut findings = Findings::of(table, &sound, &kills);
    println!("{} faults planted ({:.1} s)", kills.len(), started.elapsed().as_secs_f64());
    let mut beside = Vec::new();
    if only.is_none() {
        let jobs: Vec<_> = faults().map(|fault| Job { fault: Some(fault.name.to_owned()), checks: Vec::new() }).collect();
        beside = planted(&jobs);
        for run in &beside {
            findings.add_collateral(table, run);
        }
        println!("{} faults planted before all checks ({:.1} s)", beside.len(), started.elapsed().as_secs_f64());
    }
    findings.lines.extend(troubles);
    let summary = findings.summary();
    write_matrix(&ground.folder, &summary, table, &kills.iter().chain(&beside).collect::<Vec<_>>())?;
    findings.lines.iter().for_each(|line| println!("{line}"));
    println!("{summary} ({:.0} s; {}/matrix.md)", started.elapsed().as_secs_f64(), ground.folder.display());
    Ok(if findings.lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
