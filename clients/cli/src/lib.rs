//! The command line: reads site lists, embeds the three services or talks to
//! running ones, shows progress and results.
//!
//! It knows nothing of browsers, tables or queues: it is a client of the
//! coordinator's and the storage-service's contract like any other.

pub mod args;
mod commands;
mod crawl;
mod embed;
mod exit;
mod flags;
mod format;
mod hooks;
mod lists;
mod processes;
mod profile;
mod progress;
mod remote;
mod report;
mod schema;
mod selftest;
mod submit;
mod up;
mod visit;
mod watch;

pub use exit::{CliError, EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED};

use args::{Args, Command};

/// Runs one command; gives the process's exit code.
pub async fn run(args: Args) -> u8 {
    let result = match args.command {
        Command::Crawl(crawl) => crawl::run(*crawl).await,
        Command::Visit(visit) => visit::run(*visit).await,
        Command::Selftest(selftest) => selftest::run(*selftest).await,
        Command::Up(up) => up::run(*up).await,
        Command::Crawls(crawls) => remote::crawls(crawls).await,
        Command::Visits(visits) => remote::visits(visits).await,
        Command::Browsers(browsers) => remote::browsers(browsers).await,
        Command::Schema(schema) => schema::run(&schema),
        Command::Ps(ps) => processes::ps(ps).await,
        Command::Logs(logs) => processes::logs(logs).await,
        Command::Kill(kill) => processes::kill(kill).await,
        Command::Profile(profile) => profile::run(profile).await,
        Command::Hooks(hooks) => hooks::run(hooks).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sonde: {error}");
            error.exit_code()
        }
    }
}
