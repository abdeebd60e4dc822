//! What each command does on the page: the same on every engine, over what each can do with its page.

mod glob;
pub(super) mod hooks;
pub(super) mod input;
mod interact;
pub(super) mod script;

use std::sync::Arc;
use std::time::Duration;

use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    BrowseCommand, Command, CommandStatus, DumpPageSourceCommand, GetCommand, LoadPolicy, ScreenshotCommand,
};
use tokio::time::Instant;

use self::input::Act;
use self::script::{Answer, Script};
use super::links::{Draw, candidates, plain_may_help, same_site};
use super::{CommandReport, Progress};
use crate::attempt::{fault, links, or};
use crate::hooks::host::HookHost;
use crate::uplink::AttemptUplink;

/// Why a page was not loaded, in the words of its engine.
pub(super) trait NotLoaded: Send {
    /// The browser's code without its prefix, when it was the network.
    fn network_error(&self) -> Option<&str>;
    /// What was waited for, when the time ran out.
    fn timeout(&self) -> Option<&str>;
}

/// A visit's main page, as its engine drives it.
pub(super) trait Page: Send {
    type NotLoaded: NotLoaded;
    /// Whether hooks can have the browser.
    const LENDS: bool;

    /// What hooks a visit may run.
    fn hook_host(&self) -> Arc<HookHost>;
    fn uplink(&self) -> &AttemptUplink;
    /// Lends the browser and its page to hooks; `None` where it does not lend.
    fn lend(&self) -> impl Future<Output = std::io::Result<Option<hooks::Loan>>> + Send;
    fn progress(&self) -> &Progress;
    /// URL or bare host name.
    fn site_url(&self) -> &str;
    /// Of the document that is there.
    fn url(&self) -> String;
    /// Navigates and waits as the policy says.
    fn load(
        &mut self,
        url: &str,
        referrer: &str,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Lets the page go on for so long.
    fn stay(
        &mut self,
        time: Duration,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Absolute URLs of the links that a user could see and click.
    fn visible_links(
        &mut self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<String>, Self::NotLoaded>> + Send;
    /// Goes back to `start`, by the history where that leads there.
    fn back(
        &mut self,
        policy: LoadPolicy,
        start: &str,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    fn screenshot(
        &mut self,
        index: u32,
        shot: &ScreenshotCommand,
        deadline: Instant,
    ) -> impl Future<Output = CommandReport> + Send;
    fn dump_source(
        &mut self,
        dump: &DumpPageSourceCommand,
        deadline: Instant,
    ) -> impl Future<Output = CommandReport> + Send;
    /// Whether a command has loaded a document.
    fn loaded(&self) -> bool;
    /// Runs a script in the document that is there.
    fn ask(
        &mut self,
        script: &Script,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, Self::NotLoaded>> + Send;
    /// Uses mouse and keyboard.
    fn act(
        &mut self,
        acts: &[Act],
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Waits for a document with such a URL.
    fn reach_url(
        &mut self,
        fits: impl Fn(&str) -> bool + Send + Sync,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Waits as the policy says for the document that is there.
    fn reach_load(
        &mut self,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// What became of a load.
    fn report(
        &mut self,
        loaded: Result<(), Self::NotLoaded>,
        deadline: Instant,
    ) -> impl Future<Output = CommandReport> + Send;
}

/// Runs a command; at its deadline the page is stopped, and the report says timeout.
pub(super) async fn run(
    page: &mut impl Page,
    index: u32,
    command: &Command,
    deadline: Instant,
) -> CommandReport {
    match &command.step {
        Some(Step::Get(command)) => get(page, command, deadline).await,
        Some(Step::Browse(steps)) => browse(page, command, steps, deadline).await,
        Some(Step::Screenshot(shot)) => page.screenshot(index, shot, deadline).await,
        Some(Step::DumpPageSource(dump)) => page.dump_source(dump, deadline).await,
        Some(Step::Sleep(sleep)) => match page.stay(or(sleep.duration, Duration::ZERO), deadline).await {
            Ok(()) => CommandReport::ok(),
            failed => page.report(failed, deadline).await,
        },
        Some(Step::RunHooks(asked)) => hooks::run_hooks(page, index, asked, deadline).await,
        Some(step) => interact::interact(page, command.name(), step, deadline).await,
        None => {
            let failure = fault::invalid("command", "a command without a step");
            CommandReport::failed(CommandStatus::Error, "no step", failure)
        }
    }
}

async fn get(page: &mut impl Page, get: &GetCommand, deadline: Instant) -> CommandReport {
    let mut loaded = load_site(page, &get.url, &get.referrer, get.load_policy(), deadline).await;
    if loaded.is_ok() {
        loaded = page.stay(or(get.dwell, Duration::ZERO), deadline).await;
    }
    page.report(loaded, deadline).await
}

/// Loads a URL, the visit's own when it is empty; of a bare host http where https could not connect.
async fn load_site<P: Page>(
    page: &mut P,
    url: &str,
    referrer: &str,
    policy: LoadPolicy,
    deadline: Instant,
) -> Result<(), P::NotLoaded> {
    let url = if url.is_empty() { page.site_url().to_owned() } else { url.to_owned() };
    let mut loaded = Ok(());
    for url in candidates(&url) {
        loaded = page.load(&url, referrer, policy, deadline).await;
        match &loaded {
            Err(why) if why.network_error().is_some_and(plain_may_help) => {}
            _ => break,
        }
    }
    loaded
}

async fn browse(
    page: &mut impl Page,
    command: &Command,
    browse: &BrowseCommand,
    deadline: Instant,
) -> CommandReport {
    let seed = browse.seed.unwrap_or_else(rand::random);
    let browsed = browse_from(page, browse, seed, deadline).await;
    let mut report = page.report(browsed, deadline).await;
    let drawn = BrowseCommand { seed: Some(seed), ..browse.clone() };
    report.effective = Some(Command { step: Some(Step::Browse(drawn)), ..command.clone() });
    report
}

async fn browse_from<P: Page>(
    page: &mut P,
    browse: &BrowseCommand,
    seed: u64,
    deadline: Instant,
) -> Result<(), P::NotLoaded> {
    let (policy, dwell) = (browse.load_policy(), or(browse.dwell, Duration::ZERO));
    load_site(page, &browse.url, "", policy, deadline).await?;
    page.stay(dwell, deadline).await?;
    let start = page.url();
    let mut draw = Draw(seed);
    let all = links(browse.num_links);
    for n in 1..=all {
        page.progress().detail(format!("looking for link {n} of {all}"));
        let found = page.visible_links(deadline).await?;
        let choice = same_site(&start, &found);
        let Some(link) = draw.of(&choice).cloned() else { break };
        match page.load(&link, &start, policy, deadline).await {
            Ok(()) => page.stay(dwell, deadline).await?,
            Err(why) => match why.network_error() {
                // A link that leads nowhere is what a user would meet, too.
                Some(code) => tracing::debug!(code, "a link could not be followed"),
                None => return Err(why),
            },
        }
        if n < all {
            page.back(policy, &start, deadline).await?;
        }
    }
    Ok(())
}
