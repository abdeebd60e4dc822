//! What each command does on the page.

use std::time::Duration;

use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{Command, CommandStatus, GetCommand};
use tokio::time::Instant;

use super::FirefoxVisit;
use super::page::NotLoaded;
use crate::attempt::{fault, or};
use crate::engine::CommandReport;
use crate::engine::firefox::net_error;
use crate::engine::links::{candidates, plain_may_help};

impl FirefoxVisit {
    pub(super) async fn command(
        &mut self,
        index: u32,
        command: &Command,
        deadline: Instant,
    ) -> CommandReport {
        match &command.step {
            Some(Step::Get(get)) => self.get(get, deadline).await,
            Some(Step::Browse(browse)) => self.browse(command, browse, deadline).await,
            Some(Step::Screenshot(shot)) => self.screenshot(index, shot, deadline).await,
            Some(Step::DumpPageSource(dump)) => self.dump_source(dump, deadline).await,
            Some(Step::Sleep(sleep)) => {
                let time = or(sleep.duration, Duration::ZERO);
                match self.stay(time, deadline).await {
                    Ok(()) => CommandReport::ok(),
                    failed => self.report(failed, deadline).await,
                }
            }
            None => {
                let failure = fault::invalid("command", "a command without a step");
                CommandReport::failed(CommandStatus::Error, "no step", failure)
            }
        }
    }

    async fn get(&mut self, get: &GetCommand, deadline: Instant) -> CommandReport {
        let url = if get.url.is_empty() { self.site_url.clone() } else { get.url.clone() };
        let mut loaded = Ok(());
        for url in candidates(&url) {
            loaded = self.load(&url, &get.referrer, get.load_policy(), deadline).await;
            if !may_be_plain(&loaded) {
                break;
            }
        }
        if loaded.is_ok() {
            loaded = self.stay(or(get.dwell, Duration::ZERO), deadline).await;
        }
        self.report(loaded, deadline).await
    }
}

/// Whether https could not connect, so that http is worth a try.
pub(super) fn may_be_plain(loaded: &Result<(), NotLoaded>) -> bool {
    match loaded {
        Err(NotLoaded::Network(code)) => plain_may_help(net_error::word(code)),
        _ => false,
    }
}
