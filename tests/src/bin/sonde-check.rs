//! Checks the data directory of a crawl: exit 0 when they are sound, 9 when not, 4 when they cannot be read.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sonde_tests::checker::{CheckError, Expectation, Report, check, read_log};

/// Reads stored data only and reports every violation of the reliability rules.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Data directory: the one with crawl.sqlite
    directory: PathBuf,
    /// Visits submitted over all crawls of the directory
    #[arg(long, value_name = "N")]
    visits: Option<u64>,
    /// Every visit must have ended ok
    #[arg(long)]
    all_ok: bool,
    /// The crawl was interrupted: visits may still lack their outcome
    #[arg(long)]
    unfinished: bool,
    /// Rows without a visit that are accepted [default: any number]
    #[arg(long, value_name = "N")]
    most_unattributed: Option<u64>,
    /// Access log of the visited site: JSON lines with method and url (sonde-site --static DIR --log FILE)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn run(arguments: &Arguments) -> Result<Report, CheckError> {
    let expectation = Expectation {
        visits: arguments.visits,
        all_ok: arguments.all_ok,
        unfinished: arguments.unfinished,
        most_unattributed: arguments.most_unattributed,
        log: arguments.log.as_deref().map(read_log).transpose()?,
    };
    check(&arguments.directory, &expectation)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            print!("{report}");
            println!("violations = {}", report.violations.len());
            ExitCode::from(if report.violations.is_empty() { 0 } else { 9 })
        }
        Err(error) => {
            eprintln!("sonde-check: {error}");
            ExitCode::from(4)
        }
    }
}
