//! What the conformance suite found of adapters: printed, and kept for the table of all of them.

use std::fs::OpenOptions;
use std::io::Write as _;

use holdfast_adapters::conformance::{Outcome, Report, Table};

/// Prints the reports and [keeps](keep) them.
///
/// # Panics
/// Where a case failed.
pub(crate) fn conform(reports: &[Report]) {
    println!("{}", Table(reports));
    keep(&reports.iter().map(lines).collect::<String>());
    for report in reports {
        assert!(report.passed(), "{} does not conform", report.name);
    }
}

/// Appends [`lines`] to the file that `HOLDFAST_CONFORMANCE_LOG` names, if it names one.
///
/// # Panics
/// Where it cannot be written.
pub(crate) fn keep(lines: &str) {
    if let Some(log) = std::env::var_os("HOLDFAST_CONFORMANCE_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        log.unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

/// A line an outcome: adapter, case, and milliseconds or `FAILED`, with tabs between.
pub(crate) fn lines(report: &Report) -> String {
    let line = |outcome: &Outcome| {
        let took = outcome.result.as_ref();
        let took = took.map_or("FAILED".to_owned(), |took| took.as_millis().to_string());
        format!("{}\t{}\t{took}\n", report.name, outcome.case)
    };
    report.outcomes.iter().map(line).collect()
}
