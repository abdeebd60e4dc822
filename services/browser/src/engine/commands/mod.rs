//! What each command does on the page: the same on every engine, over what each can do with its page.

mod documents;
pub(in crate::engine) mod download;
mod explore;
pub(super) mod frames;
mod glob;
mod har;
pub(super) mod hooks;
pub(super) mod input;
mod interact;
mod jar;
mod loads;
mod mitigation;
pub(super) mod picture;
mod profile;
pub(super) mod script;
pub(super) mod upload;
mod video;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    BrowseCommand, Command, CommandStatus, Cookie, DumpPageSourceCommand, GetCommand, Header, LoadPolicy,
    MouseButton, PdfCommand, ScreenshotCommand,
};
use tokio::time::Instant;

use self::download::{Saved, Trigger};
use self::frames::Frame;
use self::input::Act;
use self::loads::Loads;
use self::picture::Area;
use self::script::{Answer, Refusal, Script};
use self::upload::Chosen;
use super::links::{Draw, candidates, plain_may_help, same_site};
use super::shared::Shared;
use super::video::{Recorded, Recording, Spool};
use super::{CommandReport, Progress};
use crate::attempt::{fault, links, or};
use crate::uplink::AttemptUplink;

/// Why a page was not loaded, in the words of its engine.
pub(super) trait NotLoaded: Send {
    /// The browser's code without its prefix, when it was the network.
    fn network_error(&self) -> Option<&str>;
    /// What was waited for, when the time ran out.
    fn timeout(&self) -> Option<&str>;
}

/// Why a command did not do what it says.
#[derive(Debug)]
pub(super) enum Why<E> {
    /// The page or the browser.
    NotLoaded(E),
    Refused(Refusal),
}

impl<E> From<Refusal> for Why<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a command gave, as JSON.
type Done<P> = Result<String, Why<<P as Page>::NotLoaded>>;

/// A visit's main page, as its engine drives it.
pub(super) trait Page: Send {
    type NotLoaded: NotLoaded;
    /// Its browser's name.
    const BROWSER: &str;
    /// Whether hooks can have the browser.
    const LENDS: bool;

    /// What the engines of the service share.
    fn shared(&self) -> &Shared;
    /// The recording that runs.
    fn recording(&mut self) -> &mut Option<Recording>;
    /// Begins to put pictures of the page into the spool, none larger than is wanted where the browser can scale.
    fn capture(
        &mut self,
        recorded: Recorded,
        spool: Spool,
        deadline: Instant,
    ) -> impl Future<Output = Result<Recording, Self::NotLoaded>> + Send;
    /// Lends the browser and its page to hooks; `None` where it does not lend.
    fn lend(&self) -> impl Future<Output = std::io::Result<Option<hooks::Loan>>> + Send;
    fn progress(&self) -> &Progress;
    /// Where what commands make goes.
    fn uplink(&self) -> &AttemptUplink;
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
        area: Area,
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
    /// When the document that is there was committed; `None` before the first.
    fn committed_at(&self) -> Option<Instant>;
    /// Counts begins of navigations, documents, and changes of the URL.
    fn moves(&self) -> u64;
    /// Waits for the next of those.
    fn moved(
        &mut self,
        before: u64,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Waits until no navigation is under way, or another document is there than the one committed then.
    fn arrive(
        &mut self,
        committed: Option<Instant>,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Waits as the policy says for the document that is there.
    fn reach_load(
        &mut self,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Self::NotLoaded>> + Send;
    /// Chooses files in the input element that an expression gives in the isolated world. They are to be there until
    /// the visit ends.
    fn choose_files(
        &mut self,
        element: &str,
        files: Chosen,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Why<Self::NotLoaded>>> + Send;
    /// Saves the first file that the browser downloads after the trigger in a directory; then downloads are refused again.
    fn save(
        &mut self,
        trigger: Trigger,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> impl Future<Output = Result<Saved, Why<Self::NotLoaded>>> + Send;
    /// Where the profile of its browser is, with the cookies of now noted; `None` where it has none on disk.
    fn noted_profile(
        &mut self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<PathBuf>, Why<Self::NotLoaded>>> + Send;
    /// The visit's cookies, of all partitions.
    fn cookies(
        &mut self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Cookie>, Why<Self::NotLoaded>>> + Send;
    /// Puts cookies into the visit's jar.
    fn put_cookies(
        &mut self,
        cookies: &[Cookie],
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Why<Self::NotLoaded>>> + Send;
    /// From now on requests of the visit have these headers.
    fn send_headers(
        &mut self,
        headers: &[Header],
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Why<Self::NotLoaded>>> + Send;
    /// The page as PDF, of at most so many bytes.
    fn print(
        &mut self,
        pdf: &PdfCommand,
        max_bytes: usize,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<u8>, Why<Self::NotLoaded>>> + Send;
    /// The page with all that it shows, as MHTML.
    fn mhtml(
        &mut self,
        deadline: Instant,
    ) -> impl Future<Output = Result<String, Why<Self::NotLoaded>>> + Send;
    /// The page's frames as they are now, itself first, each after the one that holds it.
    fn frames(
        &mut self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Frame>, Why<Self::NotLoaded>>> + Send;
    /// The text that an expression gives in a frame, in the isolated world; or why there is none.
    fn read_frame(
        &mut self,
        frame: &Frame,
        expression: &str,
        deadline: Instant,
    ) -> impl Future<Output = Result<String, String>> + Send;
    /// What became of a load.
    fn report(
        &mut self,
        loaded: Result<(), Self::NotLoaded>,
        deadline: Instant,
    ) -> impl Future<Output = CommandReport> + Send;
}

/// For a click on a link to begin a navigation.
const FOLLOWED: Duration = Duration::from_secs(3);
/// For that navigation to come to a document.
const ARRIVED: Duration = Duration::from_secs(30);

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
        Some(Step::Screenshot(shot)) => picture::screenshot(page, index, shot, deadline).await,
        Some(Step::DumpPageSource(dump)) if dump.recursive => {
            documents::frame_sources(page, index, dump, deadline).await
        }
        Some(Step::DumpPageSource(dump)) => page.dump_source(dump, deadline).await,
        Some(Step::Pdf(pdf)) => documents::pdf(page, pdf, deadline).await,
        Some(Step::Mhtml(mhtml)) => documents::mhtml(page, mhtml, deadline).await,
        Some(Step::Sleep(sleep)) => match page.stay(or(sleep.duration, Duration::ZERO), deadline).await {
            Ok(()) => CommandReport::ok(),
            failed => page.report(failed, deadline).await,
        },
        Some(Step::RunHooks(asked)) => hooks::run_hooks(page, index, asked, deadline).await,
        Some(step @ (Step::GetCookies(_) | Step::SetCookies(_) | Step::SetHeaders(_))) => {
            jar::run(page, command.name(), step, deadline).await
        }
        Some(Step::BotMitigation(asked)) => mitigation::mitigate(page, command, asked, deadline).await,
        Some(Step::DumpProfile(asked)) => profile::dump_profile(page, asked, deadline).await,
        Some(Step::Har(asked)) => har::store_har(page, index, asked, deadline).await,
        Some(Step::Explore(asked)) => explore::explore(page, asked, deadline).await,
        Some(Step::RecordVideo(asked)) => video::record_video(page, index, asked, deadline).await,
        Some(Step::Download(asked)) => download::download(page, index, asked, deadline).await,
        Some(Step::Upload(asked)) => upload::upload(page, asked, deadline).await,
        Some(step) => interact::interact(page, command.name(), step, deadline).await,
        None => {
            let failure = fault::invalid("command", "a command without a step");
            CommandReport::failed(CommandStatus::Error, "no step", failure)
        }
    }
}

/// The report of a command that gives a value, or that was refused.
async fn reported<P: Page>(page: &mut P, name: &str, done: Done<P>, deadline: Instant) -> CommandReport {
    match done {
        Ok(value_json) => CommandReport { value_json, final_url: page.url(), ..CommandReport::ok() },
        Err(Why::Refused(refusal)) => CommandReport { final_url: page.url(), ..refused(refusal) },
        Err(Why::NotLoaded(why)) => match why.timeout() {
            // The page is as it should be, only what was waited for did not come.
            Some(what) => {
                let message = format!("the time ran out while waiting for {what}");
                let failure = fault::timeout(name, message);
                let report = CommandReport::failed(CommandStatus::Timeout, "timeout", failure);
                CommandReport { final_url: page.url(), ..report }
            }
            None => page.report(Err(why), deadline).await,
        },
    }
}

fn refused(refusal: Refusal) -> CommandReport {
    let Refusal { word, message } = refusal;
    let failure = match word.as_str() {
        "timeout" => fault::timeout(&word, message),
        word => fault::command(word, message),
    };
    let status = if word == "timeout" { CommandStatus::Timeout } else { CommandStatus::Error };
    CommandReport::failed(status, word, failure)
}

async fn get(page: &mut impl Page, get: &GetCommand, deadline: Instant) -> CommandReport {
    let until = Loads::new(get.load_policy(), get.load_time);
    let mut loaded = load_site(page, &get.url, &get.referrer, until, deadline).await;
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
    until: Loads,
    deadline: Instant,
) -> Result<(), P::NotLoaded> {
    let url = if url.is_empty() { page.site_url().to_owned() } else { url.to_owned() };
    let mut loaded = Ok(());
    for url in candidates(&url) {
        loaded = until.load(page, &url, referrer, deadline).await;
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
    let dwell = or(browse.dwell, Duration::ZERO);
    let until = Loads::new(browse.load_policy(), browse.load_time);
    load_site(page, &browse.url, "", until, deadline).await?;
    page.stay(dwell, deadline).await?;
    let start = page.url();
    let mut draw = Draw(seed);
    let all = links(browse.num_links);
    for n in 1..=all {
        page.progress().detail(format!("looking for link {n} of {all}"));
        let found = page.visible_links(deadline).await?;
        let choice = same_site(&start, &found);
        let Some(link) = draw.of(&choice).cloned() else { break };
        match follow(page, &link, &start, until, deadline).await {
            Ok(()) => page.stay(dwell, deadline).await?,
            Err(why) => match why.network_error() {
                // A link that leads nowhere is what a user would meet, too.
                Some(code) => tracing::debug!(code, "a link could not be followed"),
                None => return Err(why),
            },
        }
        if n < all {
            until.back(page, &start, deadline).await?;
        }
    }
    Ok(())
}

/// Follows a link as a user does who clicks it; one that the mouse does not meet, or that opens elsewhere, by its URL.
async fn follow<P: Page>(
    page: &mut P,
    link: &str,
    start: &str,
    until: Loads,
    deadline: Instant,
) -> Result<(), P::NotLoaded> {
    let wanted = interact::fields([("url", json!(link))]);
    let place = match interact::ask(page, script::task("link", wanted, deadline, true), deadline).await {
        Ok(place) => place,
        Err(Why::NotLoaded(why)) => return Err(why),
        Err(Why::Refused(why)) => {
            tracing::debug!(word = why.word, message = why.message, "a link was not found again");
            String::new()
        }
    };
    let place: Value = serde_json::from_str(&place).unwrap_or_default();
    let Some((x, y)) = place["x"].as_f64().zip(place["y"].as_f64()) else {
        return until.load(page, link, start, deadline).await;
    };
    let (before, committed) = (page.moves(), page.committed_at());
    page.act(&input::clicks(x, y, MouseButton::Left, 1, &[]), deadline).await?;
    page.progress().detail("waiting for the link to lead somewhere");
    match page.moved(before, deadline.min(Instant::now() + FOLLOWED)).await {
        Ok(()) => {}
        // A script of the page has taken the click.
        Err(why) if why.timeout().is_some() => return Ok(()),
        Err(why) => return Err(why),
    }
    match page.arrive(committed, deadline.min(Instant::now() + ARRIVED)).await {
        Ok(()) => until.reach(page, deadline).await,
        // It comes to nothing that the browser would tell of.
        Err(why) if why.timeout().is_some() => Ok(()),
        Err(why) => Err(why),
    }
}
