//! Real Chromium on the pages: the log holds what each page's expectation says, and pages report what they did.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sonde_site::{Page, Site, SiteOptions, page};
use tokio::process::{Child, Command};

/// One page in a fresh headless Chromium on 2 loaded cores.
const VISIT: Duration = Duration::from_secs(60);

struct Browser {
    child: Child,
    group: Pid,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens each URL in a tab of its own. Headless Chromium takes one URL, so a local file opens the others.
    fn open(urls: &[String]) -> Self {
        let profile = tempfile::tempdir().expect("a temp dir can be made");
        let opens: String = urls.iter().map(|url| format!("open({url:?}, '_blank', 'noopener');")).collect();
        let start = profile.path().join("start.html");
        std::fs::write(&start, format!("<!doctype html><script>{opens}</script>"))
            .expect("the start page is written");
        let real = Path::new("/usr/lib/chromium/chromium");
        let mut command = Command::new(if real.exists() { real } else { Path::new("/usr/bin/chromium") });
        command
            .args(["--headless=new", "--no-first-run", "--disable-gpu", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-popup-blocking", "--disable-breakpad"])
            .arg("--host-resolver-rules=MAP nope.invalid ~NOTFOUND")
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        let null = std::process::Stdio::null;
        command
            .arg(format!("file://{}", start.display()))
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().expect("Chromium is installed");
        let pid = child.id().expect("it was just started").cast_signed();
        Self { child, group: Pid::from_raw(pid).expect("a pid is not 0"), _profile: profile }
    }

    /// Asks for an end and waits for it; what is left of the browser's group is killed on drop.
    async fn close(mut self) {
        kill_process(self.group, Signal::TERM).expect("it still runs");
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        ended.expect("Chromium ends within ten seconds of SIGTERM").expect("it can be waited for");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // No such group: everything ended by itself.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

fn named(name: &str) -> &'static Page {
    page(name).expect("the page exists")
}

/// Opens the pages in one browser and waits until each reported its last document.
async fn visit(site: &Site, names: &[&str], extra: &str) -> Browser {
    let urls: Vec<String> = names.iter().map(|name| named(name).url(site, name, extra)).collect();
    let mut browser = Browser::open(&urls);
    for name in names {
        let done = named(name).done.expect("the page reports");
        let reported = tokio::select! {
            reported = site.wait_done(name, done, VISIT) => reported,
            status = browser.child.wait() => panic!("Chromium ended before {name} was done: {status:?}"),
        };
        reported.unwrap_or_else(|error| {
            let paths: Vec<_> =
                site.hits_for(name).iter().map(|h| format!("{} {}", h.method, h.path)).collect();
            panic!("{error}; {paths:#?} {:#?}", site.truth(name))
        });
    }
    browser
}

fn paths(site: &Site, token: &str, path: &str) -> usize {
    site.hits_for(token).iter().filter(|hit| hit.path_only() == path).count()
}

/// I10: what a real browser asks for is in the log, request for request.
#[tokio::test]
async fn network_pages_leave_the_requests_they_promise() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let names =
        ["static-small", "two-hundred-requests", "redirects", "posts", "bodies", "preflight", "cache"];
    let browser = visit(&site, &names, "").await;
    let kinds = ["pixel.png", "style.css", "script.js", "json"];
    let sub = |kind: &&str| paths(&site, "two-hundred-requests", &format!("/r/{kind}"));
    assert_eq!(kinds.iter().map(sub).sum::<usize>(), 200);
    let redirects = named("redirects").expected("redirects", &site).required;
    assert_eq!(redirects.http_redirects.len(), 3 + 3 + 1 + 1 + 2 + 1);
    assert!(redirects.http_redirects.iter().any(|r| r.new.contains("third.localhost")));
    let kept: Vec<_> =
        site.hits_for("redirects").into_iter().filter(|h| h.path_only() == "/r/echo").collect();
    assert_eq!(kept.iter().map(|h| h.method.as_str()).collect::<Vec<_>>(), ["POST", "POST", "GET"]);
    assert_eq!(kept[0].request_body.bytes, b"kept-307");
    let posts: Vec<_> = site.hits_for("posts").into_iter().filter(|h| h.path_only() == "/r/echo").collect();
    assert_eq!(posts.iter().filter(|h| h.method == "POST").count(), 10);
    let binary = posts.iter().find(|h| h.path.contains("kind=binary")).unwrap();
    assert_eq!(binary.request_body.bytes, (0..=255).collect::<Vec<u8>>());
    let form = posts.iter().find(|h| h.path.contains("kind=form&")).unwrap();
    assert_eq!(form.request_body.bytes, b"a=%C3%A4+%26+b&b=2");
    let preflight: Vec<_> =
        site.hits_for("preflight").into_iter().filter(|h| h.path_only() == "/r/echo").collect();
    assert_eq!(preflight.iter().map(|h| h.method.as_str()).collect::<Vec<_>>(), ["OPTIONS", "PUT"]);
    assert!(preflight[1].headers_exact && preflight[1].header("x-fixture") == Some("1"));
    let cached = paths(&site, "cache", "/r/cached.js");
    assert!((1..=3).contains(&cached), "{cached} requests passed the cache");
    browser.close().await;
    site.stop().await.unwrap();
}

#[tokio::test]
async fn failing_and_streaming_pages_report_what_failed() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let browser = visit(
        &site,
        &["failures", "websocket", "eventsource", "hang", "download", "slow", "dialog", "infinite-loop"],
        "&ms=300",
    )
    .await;
    let failures = named("failures").expected("failures", &site).required;
    let classes: Vec<_> = failures.http_failures.iter().map(|f| format!("{:?}", f.class)).collect();
    assert_eq!(classes, ["Refused", "Dns", "Aborted", "Truncated"]);
    let statuses: Vec<u16> = failures.http_responses.iter().map(|r| r.status).collect();
    for status in [404, 500, 204, 304] {
        assert!(statuses.contains(&status), "{status} in {statuses:?}");
    }
    assert_eq!(named("websocket").expected("websocket", &site).required.websocket_frames.len(), 6);
    let slow = site.hits_for("slow");
    assert!(
        slow.iter().any(|hit| hit.path.contains("/r/slow?ms=300&") && hit.status == Some(200)),
        "{slow:#?}"
    );
    assert_eq!(site.truth("eventsource").notes, ["one,two,three"]);
    assert_eq!(site.hits_for("hang").iter().find(|h| h.path_only() == "/r/hang").unwrap().status, None);
    browser.close().await;
    site.stop().await.unwrap();
}

#[tokio::test]
async fn documents_navigate_frame_and_work_as_they_say() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let browser = visit(&site, &["cookies", "frames", "workers", "navigation", "popups"], "").await;
    let set = named("cookies").expected("cookies", &site);
    assert!(set.required.javascript_cookies.iter().any(|c| c.name == "http_only"));
    assert!(set.required.javascript_cookies.iter().any(|c| c.name == "store_gone" && c.deleted));
    assert!(set.optional.javascript_cookies.iter().any(|c| c.name == "third_part"));
    assert_eq!(paths(&site, "frames", "/p/frame-child"), 3);
    let settled = |site: &Site| {
        let done = site.truth("popups").done;
        ["popup-child-0", "popup-child-1"].iter().all(|name| done.iter().any(|d| d == name))
    };
    site.wait_for("both popups", VISIT, settled).await.unwrap();
    let workers: Vec<_> = site.hits_for("workers").into_iter().map(|h| h.path).collect();
    for at in [
        "at=worker&",
        "at=worker-import",
        "at=blob",
        "at=shared",
        "at=sw-install",
        "at=through&v=workers&sw=1",
    ] {
        assert!(workers.iter().any(|path| path.contains(at)), "{at} in {workers:#?}");
    }
    assert!(
        site.truth("workers").notes.contains(&"/s/synthetic made here".to_owned()),
        "{:?}",
        site.truth("workers")
    );
    let moved = named("navigation").expected("navigation", &site).required.navigations;
    assert!(moved.iter().any(|n| n.url.ends_with("state=replaced#part")), "{moved:#?}");
    assert_eq!(moved.iter().filter(|n| n.kind.as_deref() == Some("document")).count(), 4, "{moved:#?}");
    assert_eq!(moved.iter().filter(|n| n.kind.as_deref() != Some("document")).count(), 4, "{moved:#?}");
    browser.close().await;
    site.stop().await.unwrap();
}

/// I1, I2, I4, I12, I18: without an instrument the hostile pages work and cause no report of their own.
#[tokio::test]
async fn script_pages_count_their_own_calls() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let names = ["javascript", "js-flood", "js-unload", "hostile-control", "hostile-suppress-before"];
    let browser = visit(&site, &names, "&n=1000").await;
    let more = ["hostile-suppress-after", "hostile-forge", "csp-strict", "csp-sandbox", "csp-control"];
    let other = visit(&site, &more, "").await;
    let javascript = named("javascript").expected("javascript", &site).required.javascript;
    assert!(javascript.len() > 70, "{} kinds of calls", javascript.len());
    assert_eq!(site.truth("js-flood").calls["get window.navigator.userAgent"], 1000);
    site.wait_for("calls at pagehide", VISIT, |site| {
        site.truth("js-unload").done.iter().any(|d| d == "pagehide")
    })
    .await
    .unwrap();
    assert_eq!(site.truth("js-unload").calls["get window.navigator.platform"], 5);
    for when in ["hostile-suppress-before", "hostile-suppress-after"] {
        let doubled: Vec<u64> = site.truth("hostile-control").calls.values().map(|n| n * 2).collect();
        assert_eq!(site.truth(when).calls.into_values().collect::<Vec<_>>(), doubled);
    }
    let reported = |site: &Site| !site.csp_reports("csp-control").is_empty();
    site.wait_for("the control's report", VISIT, reported).await.unwrap();
    for (name, due) in [("csp-strict", 0), ("csp-sandbox", 0), ("csp-control", 1)] {
        assert_eq!(named(name).expected(name, &site).csp_reports, due);
        assert_eq!(site.csp_reports(name).len(), due, "{name} {:?}", site.csp_reports(name));
    }
    assert_eq!(site.truth("csp-strict").notes, ["violations 0"]);
    browser.close().await;
    other.close().await;
    site.stop().await.unwrap();
}
