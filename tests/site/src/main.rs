//! Serves the fixture site, or a directory of HTML, until SIGINT or SIGTERM.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use sonde_site::{DocOptions, DocSite, Site, SiteOptions, pages};
use tokio::signal::unix::{SignalKind, signal};

/// Pages of known content on loopback host names.
///
/// Prints one URL per line, then serves until SIGINT or SIGTERM.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serve this directory of HTML instead of the fixture pages.
    #[arg(long = "static", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Host names: doc-<i>.localhost with --static, else site-<i>.localhost.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// Append one JSON line per request to this file (with --static).
    #[arg(long, value_name = "FILE", requires = "directory")]
    log: Option<PathBuf>,
    /// Requests logged; further ones are served, counted and not logged.
    #[arg(long, default_value_t = 1_000_000)]
    log_capacity: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let log = sonde_site::LogOptions { capacity: arguments.log_capacity, ..Default::default() };
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let ended = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    match arguments.directory {
        Some(directory) => {
            let options = DocOptions {
                directory,
                hosts: arguments.hosts,
                port: arguments.port,
                access_log: arguments.log,
                log,
            };
            let site = DocSite::start(options).await?;
            print_lines(site.urls())?;
            ended.await;
            site.stop().await?;
            if let Some(error) = site.access_log_error() {
                anyhow::bail!("the access log lost lines: {error}; free space on its disk");
            }
            anyhow::ensure!(site.log_overflow() == 0, "{} requests were not logged", site.log_overflow());
        }
        None => {
            let site = Site::start(SiteOptions { port: arguments.port, sites: arguments.hosts, log }).await?;
            print_lines(pages().map(|page| page.url(&site, page.name, "")))?;
            ended.await;
            site.stop().await?;
        }
    }
    Ok(())
}

fn print_lines(lines: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").context("cannot write the URL list")?;
    }
    out.flush().context("cannot write the URL list")
}
