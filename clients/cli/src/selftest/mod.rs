//! `sonde selftest`: visits every page of the fixture site and compares what was stored with what the site's own log
//! and the pages' reports say, and what differs between browsers with the reviewed list.

mod drive;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sonde_runtime::clock::Mono;
use sonde_runtime::signals::Shutdown;
use sonde_site::expect::Differences;
use sonde_site::{Page, Site, SiteOptions, pages as every_page};

use crate::args::{BrowserArg, BrowserArgs, SelftestArgs};
use crate::embed::{Embedded, Settings};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::format::span;
use report::Report;

/// Runs it.
pub async fn run(args: SelftestArgs) -> Result<u8, CliError> {
    let differences = Differences::reviewed().map_err(|e| CliError::Service(e.to_string()))?;
    let pages = chosen(&args)?;
    let out = args.out.clone();
    let out =
        out.unwrap_or_else(|| std::env::temp_dir().join(format!("sonde-selftest-{}", uuid::Uuid::new_v4())));
    let kinds = match args.both {
        true => vec![BrowserArg::Chromium, BrowserArg::Firefox],
        false => vec![args.browser.kind],
    };
    if args.config.print_config {
        print!("{}", Settings::load(&out, &args.browser, &args.config)?.print()?);
        return Ok(0);
    }
    let shutdown =
        Shutdown::on_signals().map_err(|e| CliError::Service(format!("signals cannot be handled: {e}")))?;
    let mut exact = true;
    let mut interrupted = false;
    for kind in kinds {
        let browser = BrowserArgs { kind, ..args.browser.clone() };
        let mut settings = Settings::load(&out, &browser, &args.config)?;
        settings.browser.value.trusted_certificates.push(site_authority(&out)?);
        let slots = usize::try_from(settings.browser.value.slots).unwrap_or(1);
        let services = Embedded::start(settings, &args.config.log).await?;
        let corpus = Corpus { kind, pages: &pages, differences: &differences, slots, services: &services };
        let result = tokio::select! {
            result = corpus.runs(args.runs) => result.map(Some),
            () = shutdown.drain.cancelled() => Ok(None),
        };
        services.close().await;
        match result? {
            Some(all) => exact &= all,
            None => {
                interrupted = true;
                break;
            }
        }
    }
    if args.out.is_none() {
        remove(&out);
    }
    Ok(match (interrupted, exact) {
        (true, _) => EXIT_INTERRUPTED,
        (_, true) => 0,
        (_, false) => EXIT_FAILED,
    })
}

fn chosen(args: &SelftestArgs) -> Result<Vec<&'static Page>, CliError> {
    let named = |page: &&Page| args.page.as_ref().is_none_or(|text| page.name.contains(text.as_str()));
    let pages: Vec<_> = every_page().filter(named).collect();
    if pages.is_empty() {
        let names: Vec<_> = every_page().map(|p| p.name).collect();
        let text = format!("--page: no page's name contains it; the pages: {}", names.join(", "));
        return Err(CliError::Input(text));
    }
    Ok(pages)
}

/// Writes down who vouches for the hosts of the site.
fn site_authority(out: &Path) -> Result<PathBuf, CliError> {
    let path = out.join("fixture-authority.pem");
    let pem = sonde_site::authority_pem().map_err(|e| CliError::Service(e.to_string()))?;
    let written = std::fs::create_dir_all(out).and_then(|()| std::fs::write(&path, pem));
    written.map_err(|e| {
        CliError::Service(format!("cannot write {}: {e}; free or name a directory", path.display()))
    })?;
    Ok(path)
}

fn remove(out: &PathBuf) {
    if let Err(error) = std::fs::remove_dir_all(out) {
        eprintln!("sonde: {} could not be removed: {error}", out.display());
    }
}

/// The pages on one browser.
struct Corpus<'a> {
    kind: BrowserArg,
    pages: &'a [&'static Page],
    differences: &'a Differences,
    slots: usize,
    services: &'a Embedded,
}

impl Corpus<'_> {
    /// Whether no run had a difference that is not listed.
    async fn runs(&self, runs: u32) -> Result<bool, CliError> {
        let browser = name(self.kind);
        let mut failed = 0;
        for run in 1..=runs {
            let began = Mono::now();
            let report = self.run(run).await?;
            let exact = report.is_exact();
            failed += u32::from(!exact);
            if run == runs || !exact {
                report.print();
            }
            let word = if exact { report.praise() } else { "DIFFERENCES, see above".to_owned() };
            let (pages, span) = (self.pages.len(), span(began.elapsed()));
            println!("{browser}: run {run}/{runs}: {pages} pages in {span}: {word}");
            println!("{browser}: {}", report.times());
        }
        if runs > 1 {
            println!("{browser}: {} of {runs} runs without a difference that is not listed", runs - failed);
        }
        Ok(failed == 0)
    }

    /// Visits all pages once, as many at a time as there are browsers, with one more waiting so that none is idle.
    async fn run(&self, run: u32) -> Result<Report<'_>, CliError> {
        let service = |e: sonde_site::SiteError| CliError::Service(e.to_string());
        let site = Arc::new(Site::start(SiteOptions::default()).await.map_err(service)?);
        let mut waiting: Vec<_> = self.pages.iter().copied().rev().collect();
        let mut running = tokio::task::JoinSet::new();
        let mut ended: Option<(&Page, String, Result<Duration, String>)> = None;
        let mut report = Report::new(name(self.kind), self.differences, &self.services.data_dir);
        loop {
            while running.len() <= self.slots
                && let Some(page) = waiting.pop()
            {
                let (site, channel, kind) = (site.clone(), self.services.coordinator.clone(), self.kind);
                running.spawn(async move {
                    let token = format!("{}-{run}-{}", name(kind), page.name);
                    let outcome = drive::drive(&channel, kind, &site, page, &token).await;
                    (page, token, outcome)
                });
            }
            // The next visits are under way while this one is looked at.
            if let Some((page, token, outcome)) = ended.take() {
                report.add(page, &token, outcome, &site);
            }
            let Some(done) = running.join_next().await else { break };
            ended = Some(done.map_err(|e| CliError::Service(format!("a visit's task failed: {e}")))?);
        }
        site.stop().await.map_err(service)?;
        Ok(report)
    }
}

/// As in `expectations.toml`.
fn name(kind: BrowserArg) -> &'static str {
    match kind {
        BrowserArg::Chromium => "chromium",
        BrowserArg::Firefox => "firefox",
    }
}
