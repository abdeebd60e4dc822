//! Visits on a real Firefox, with a storage in memory: the engine alone, without sessions.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use sonde_browser::engine::{Fate, Scripts};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    BrowseCommand, BrowserKind, BrowserSpec, CommandStatus, DumpPageSourceCommand, GetCommand, ImageFormat,
    Instruments, LoadPolicy, RetryAdvice, ScreenshotCommand, SleepCommand, ThirdPartyCookies,
};
use support::firefox::{Rig, assert_nothing_left, kill, processes_of};
use support::rig::{everything, get};
use support::{PATIENCE, soon};
use tokio::time::timeout;

const SHORT: Duration = Duration::from_secs(3);

/// R14, M30, M35: what it is made of is in provenance, and its end leaves neither processes nor files.
#[tokio::test]
async fn a_browser_says_what_it_is_and_leaves_nothing() {
    let spec = BrowserSpec {
        third_party_cookies: ThirdPartyCookies::FromVisited.into(),
        languages: "de,en".to_owned(),
        ..BrowserSpec::default()
    };
    let rig = Rig::with(Scripts::of_kind(BrowserKind::Firefox, &everything()), spec).await;
    let facts = rig.browser.facts().clone();
    let told: serde_json::Value = serde_json::from_str(&facts.provenance).unwrap();
    assert!(told["product"].as_str().unwrap().starts_with("Firefox/1"), "{told}");
    assert_eq!(told["prefs"]["network.cookie.cookieBehavior"], 3);
    assert_eq!(told["prefs"]["intl.accept_languages"], "de,en");
    assert_eq!(told["third_party_cookies"], "from_visited");
    assert_eq!((told["headless"].as_bool(), told["sandbox"].as_bool()), (Some(true), Some(true)), "{told}");
    assert_eq!(told["extension"]["hash"].as_str().map(str::len), Some(64));
    for name in ["geckodriver", "user_agent", "said", "flags"] {
        assert!(!told[name].is_null(), "{name} is missing: {told}");
    }
    let state = |group: &str| facts.capabilities[group].clone();
    assert_eq!(
        (state("javascript.calls").as_str(), state("cookies.snapshots").as_str()),
        ("observed", "observed")
    );
    let names: Vec<String> = processes_of(rig.run_dir.path()).into_iter().map(|(_, name)| name).collect();
    assert!(
        names.iter().any(|n| n == "firefox-esr") && names.iter().any(|n| n == "geckodriver"),
        "{names:?}"
    );
    let mut visit = rig.open(&Instruments::default()).await;
    assert_eq!(visit.get(&rig.url("/")).await.status, CommandStatus::Ok);
    let asked = rig.site.asked("/").await;
    assert!(asked.header("accept-language").unwrap().starts_with("de,en;q="), "{asked:?}");
    drop(visit);
    rig.stop().await;
}

/// M05, M13, M14, R4: calls, navigations and cookies of a page arrive whole, sealed, and bound to their visits.
#[tokio::test]
async fn what_a_page_does_arrives_sealed() {
    let instruments = everything();
    let rig = Rig::start(Scripts::of_kind(BrowserKind::Firefox, &instruments)).await;
    for _ in 0..2 {
        let mut visit = rig.open(&instruments).await;
        let report = visit.get(&rig.url("/calls")).await;
        assert_eq!((report.status, report.http_status), (CommandStatus::Ok, 200), "{report:?}");
        assert!(report.final_url.ends_with("/pushed"), "{report:?}");
        assert!(visit.visit.instruments_ready_at_us() < visit.visit.navigation_start_at_us());
        visit.seal_whole().await;
        let rows = rig.rows(visit.visit_id);
        let calls = |symbol: &str| rows.javascript().iter().filter(|call| call.symbol == symbol).count();
        assert_eq!(calls("window.navigator.userAgent"), 100);
        assert_eq!(calls("window.screen.colorDepth"), 1);
        assert_eq!(rows.requests().len(), 1, "the page, and nothing else");
        assert_eq!(rows.navigations().len(), 2, "a commit and a pushState: {:#?}", rows.navigations());
        let cookies: Vec<_> = rows
            .cookies()
            .into_iter()
            .map(|c| (c.source.as_str(), c.change_cause.as_deref(), c.name.as_str()))
            .collect();
        assert!(cookies.contains(&("script", Some("explicit"), "w")), "{cookies:?}");
        assert!(cookies.contains(&("snapshot", Some("visit-end"), "w")), "{cookies:?}");
        assert!(!cookies.iter().any(|(_, cause, _)| *cause == Some("visit-start")), "a new context has none");
        visit.end().await;
    }
    rig.stop().await;
}

/// M31: nothing carries over from one visit to the next.
#[tokio::test]
async fn visits_share_neither_cookies_nor_storage() {
    let rig = Rig::start(None).await;
    let cookies = Instruments { cookies: false, ..Instruments::default() };
    let mut first = rig.open(&cookies).await;
    assert_eq!(first.get(&rig.url("/cookies")).await.status, CommandStatus::Ok);
    rig.site.asked("/state?s%3D2%3B%20j%3D3%201").await;
    assert_eq!(first.get(&rig.url("/state-of?again")).await.status, CommandStatus::Ok);
    let again = rig.site.asked("/state-of?again").await;
    assert_eq!(again.header("cookie"), Some("h=1; s=2; j=3"));
    // Both at once, then the second after the first is gone.
    let mut second = rig.open(&cookies).await;
    assert_eq!(second.get(&rig.url("/state-of?second")).await.status, CommandStatus::Ok);
    assert_eq!(rig.site.asked("/state-of?second").await.header("cookie"), None);
    rig.site.asked("/seen?%200").await;
    for visit in [first, second] {
        visit.end().await;
    }
    let mut third = rig.open(&cookies).await;
    assert_eq!(third.get(&rig.url("/state-of?third")).await.status, CommandStatus::Ok);
    assert_eq!(rig.site.asked("/state-of?third").await.header("cookie"), None);
    rig.stop().await;
}

/// M20, M24: each command with its results, as on Chromium.
#[tokio::test]
async fn commands_leave_what_they_are_to_leave() {
    let rig = Rig::start(None).await;
    let mut visit = rig.open(&Instruments::default()).await;
    let none = visit.run(Step::Screenshot(ScreenshotCommand::default())).await;
    assert_eq!((none.status, none.error.as_str()), (CommandStatus::Error, "no page"));
    for policy in
        [LoadPolicy::Commit, LoadPolicy::DomContentLoaded, LoadPolicy::Load, LoadPolicy::NetworkIdle]
    {
        let report = visit.run(get(&rig.url("/tall?p"), policy)).await;
        assert_eq!((report.status, report.http_status), (CommandStatus::Ok, 200), "{policy:?}: {report:?}");
        assert_eq!(report.final_url, rig.url("/tall?p"));
    }
    let view = visit.run(Step::Screenshot(ScreenshotCommand::default())).await;
    let whole = ScreenshotCommand {
        full_page: true,
        format: ImageFormat::Jpeg.into(),
        suffix: "full".into(),
        ..ScreenshotCommand::default()
    };
    let whole = visit.run(Step::Screenshot(whole)).await;
    for (report, ending, media) in [(&view, ".png", "image/png"), (&whole, "-full.jpg", "image/jpeg")] {
        assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
        let [artifact] = report.artifacts.as_slice() else { panic!("{report:?}") };
        let starting = format!("{}-", visit.visit_id);
        assert!(artifact.name.starts_with(&starting) && artifact.name.ends_with(ending), "{artifact:?}");
        assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("screenshot", media));
        assert!(artifact.bytes > 100);
    }
    let source = visit.run(Step::DumpPageSource(DumpPageSourceCommand::default())).await;
    assert!(source.artifacts[0].name.ends_with(".html") && source.artifacts[0].bytes > 50, "{source:?}");
    let nap = SleepCommand { duration: Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 }) };
    assert_eq!(visit.run(Step::Sleep(nap)).await.status, CommandStatus::Ok);
    let browse = BrowseCommand {
        url: rig.url("/links"),
        num_links: Some(2),
        seed: Some(7),
        ..BrowseCommand::default()
    };
    let browsed = visit.run(Step::Browse(browse)).await;
    assert_eq!(browsed.status, CommandStatus::Ok, "{browsed:?}");
    assert!(matches!(browsed.effective.unwrap().step, Some(Step::Browse(b)) if b.seed == Some(7)));
    let followed = [rig.site.hits("/one"), rig.site.hits("/two")].concat();
    assert_eq!(followed.len(), 2, "{followed:?}");
    assert!(
        followed.iter().all(|hit| hit.header("referer") == Some(rig.url("/links").as_str())),
        "{followed:?}"
    );
    rig.stop().await;
}

/// M33, M40: the same words as on Chromium, with Firefox's own code beside them; the browser stays.
#[tokio::test]
async fn network_errors_have_the_words_of_the_other_engine() {
    let rig = Rig::start(None).await;
    let mut visit = rig.open(&Instruments::default()).await;
    let refused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, word, code, advice) in [
        (
            "http://nowhere.invalid/".to_owned(),
            "NAME_NOT_RESOLVED",
            "NS_ERROR_UNKNOWN_HOST",
            RetryAdvice::Never,
        ),
        (
            format!("http://{refused}/"),
            "CONNECTION_REFUSED",
            "NS_ERROR_CONNECTION_REFUSED",
            RetryAdvice::Same,
        ),
        ("http://localhost:1/".to_owned(), "UNSAFE_PORT", "deniedPortAccess", RetryAdvice::Never),
        (rig.url("/loop"), "TOO_MANY_REDIRECTS", "NS_ERROR_REDIRECT_LOOP", RetryAdvice::Never),
        (rig.url("/204"), "ABORTED", "NS_BINDING_ABORTED", RetryAdvice::Same),
        (rig.url("/download"), "ABORTED", "NS_BINDING_ABORTED", RetryAdvice::Same),
        (rig.url("/empty-404"), "HTTP_RESPONSE_CODE_FAILURE", "httpErrorPage", RetryAdvice::Same),
    ] {
        for referrer in ["", "http://from.invalid/"] {
            let command =
                GetCommand { url: url.clone(), referrer: referrer.to_owned(), ..GetCommand::default() };
            let report = visit.run(Step::Get(command)).await;
            assert_eq!(
                (report.status, report.error.as_str()),
                (CommandStatus::Neterror, word),
                "{url}: {report:?}"
            );
            let failure = report.failure.unwrap();
            assert_eq!(failure.retry(), advice, "{url}");
            assert_eq!(failure.net_error, code, "{url}: {failure:?}");
        }
    }
    let report = visit.get(&rig.url("/404")).await;
    assert_eq!((report.status, report.http_status), (CommandStatus::Ok, 404), "{report:?}");
    // A bare host: https cannot connect, http can.
    let bare = visit.get(&rig.url("/bare").replace("http://", "")).await;
    assert_eq!((bare.status, bare.final_url), (CommandStatus::Ok, rig.url("/bare")));
    rig.stop().await;
}

/// M24, M25: no dialog, question, popup, download or loop makes a visit wait.
#[tokio::test]
async fn nothing_that_asks_a_user_hangs_a_visit() {
    let rig = Rig::start(None).await;
    let mut visit = rig.open(&Instruments::default()).await;
    let report = visit.get(&rig.url("/dialogs")).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    rig.site.asked("/answered?falsenull").await;
    for (path, status) in [("/popups", 200), ("/auth", 401), ("/one", 200)] {
        let report = visit.get(&rig.url(path)).await;
        assert_eq!((report.status, report.http_status), (CommandStatus::Ok, status), "{path}: {report:?}");
    }
    let hang = visit.run_within(get(&rig.url("/hang"), LoadPolicy::Load), SHORT).await;
    assert_eq!((hang.status, hang.error.as_str()), (CommandStatus::Timeout, "timeout: the navigation"));
    let report = visit.get(&rig.url("/endless")).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    let nap = SleepCommand { duration: Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 }) };
    visit.run(Step::Sleep(nap)).await;
    let stuck = visit.run_within(Step::Screenshot(ScreenshotCommand::default()), SHORT).await;
    assert_eq!(stuck.status, CommandStatus::Timeout, "{stuck:?}");
    visit.end().await;
    let mut next = rig.open(&Instruments::default()).await;
    assert_eq!(next.get(&rig.url("/one")).await.status, CommandStatus::Ok);
    rig.stop().await;
}

/// A crash of the page's own process is seen at once, and the browser goes on.
#[tokio::test]
async fn a_page_whose_process_dies_is_gone() {
    let rig = Rig::start(None).await;
    let before = processes_of(rig.run_dir.path());
    let mut visit = rig.open(&Instruments::default()).await;
    assert_eq!(visit.get(&rig.url("/one")).await.status, CommandStatus::Ok);
    let new = processes_of(rig.run_dir.path());
    let pages: Vec<u32> = new.difference(&before).filter(|(_, n)| is_page(n)).map(|(pid, _)| *pid).collect();
    let nap = SleepCommand { duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }) };
    let killing = async { pages.iter().for_each(|pid| kill(*pid)) };
    let (report, ()) = tokio::join!(visit.run(Step::Sleep(nap)), killing);
    assert_eq!(report.status, CommandStatus::Critical, "{report:?}");
    assert!(report.error.contains("crashed"), "{report:?}");
    visit.end().await;
    let mut next = rig.open(&Instruments::default()).await;
    assert_eq!(next.get(&rig.url("/one")).await.status, CommandStatus::Ok);
    rig.stop().await;
}

/// Content processes have the site or the kind of content for a name.
fn is_page(name: &str) -> bool {
    name.starts_with("Isolated") || name.starts_with("Web Content") || name.starts_with("Privileged")
}

/// M40, R14: whichever of the two processes dies, everything that waits for it ends at once, and nothing stays.
#[tokio::test]
async fn a_killed_browser_or_geckodriver_ends_its_visit_at_once() {
    for victim in ["firefox-esr", "geckodriver"] {
        let instruments = everything();
        let rig = Rig::start(Scripts::of_kind(BrowserKind::Firefox, &instruments)).await;
        let mut visit = rig.open(&instruments).await;
        let died = rig.browser.died();
        let hang = rig.url("/hang");
        let killing = async {
            rig.site.asked("/hang").await;
            let pid = match victim {
                "geckodriver" => {
                    let all = processes_of(rig.run_dir.path());
                    all.into_iter().find(|(_, name)| name == "geckodriver").unwrap().0
                }
                _ => rig.browser.facts().pid,
            };
            kill(pid);
        };
        let all = async { tokio::join!(visit.get(&hang), died, killing) };
        let (report, why, ()) = timeout(PATIENCE / 2, all).await.unwrap();
        assert_eq!(report.status, CommandStatus::Critical, "{victim}: {report:?}");
        assert!(why.contains("ended"), "{why}");
        // What was not running yet finds the browser dead, too.
        let late = visit.get(&hang).await;
        assert_eq!(late.status, CommandStatus::Critical, "{victim}: {late:?}");
        let ending = visit.visit.finish(soon()).await;
        assert_eq!(ending.incomplete_reason, "crashed", "{victim}: {ending:?}");
        assert!(matches!(visit.visit.dispose(soon()).await, Fate::Replace(_)));
        rig.browser.clone().close(Duration::from_secs(5)).await;
        assert_nothing_left(rig.run_dir.path()).await;
    }
}
