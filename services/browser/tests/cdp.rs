//! The DevTools client, the launcher and the process model against a real Chromium.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{
    AutoAttach, CallError, ContextId, Event, Filter, Item, RawCommand, SessionInfo, Subscription,
};
use sonde_browser::engine::chromium::launch::{
    Browser, ChromiumOptions, LaunchError, ThirdPartyCookies, launch,
};
use sonde_browser::process::{self, Process, Spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(20);

/// A web server on a free port of loopback; `{port}` in a body becomes its port.
struct Site {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    async fn start(pages: &'static [(&'static str, &'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = vec![0; 16 * 1024];
                    let Ok(length) = stream.read(&mut request).await else { return };
                    let head = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/");
                    let page = pages.iter().find(|(p, ..)| *p == path);
                    let (kind, body, more) = match page {
                        Some((_, body, more)) if path.ends_with(".js") => ("text/javascript", *body, *more),
                        Some((_, body, more)) => ("text/html", *body, *more),
                        None => ("text/plain", "", ""),
                    };
                    let body = body.replace("{port}", &port.to_string());
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                         Access-Control-Allow-Origin: *\r\nConnection: close\r\n{more}\r\n{body}",
                        body.len()
                    );
                    // A browser that went away does not want it.
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, task }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }
}

fn options(root: &Path) -> ChromiumOptions {
    ChromiumOptions {
        no_sandbox: rustix::process::geteuid().is_root(),
        profile_root: Some(root.to_owned()),
        ..ChromiumOptions::default()
    }
}

fn observe(info: &SessionInfo) -> Vec<RawCommand> {
    let mut commands = vec![RawCommand::new("Network.enable", json!({}))];
    if matches!(&*info.kind, "page" | "iframe") {
        commands.push(RawCommand::new("Page.enable", json!({})));
    }
    commands
}

async fn started(options: ChromiumOptions) -> Browser {
    let browser = launch(options).await.unwrap();
    browser.connection().auto_attach(AutoAttach::new(observe), SOON).await.unwrap();
    browser
}

async fn next_event(events: &mut Subscription) -> Arc<Event> {
    match timeout(SOON, events.recv()).await.expect("an event in time").expect("the stream goes on") {
        Item::Event(event) => event,
        Item::HookFailed(failure) => panic!("{failure:?}"),
        Item::Lost { events, .. } => panic!("lost {events}"),
    }
}

fn left_in(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    names.map(|n| n.to_string_lossy().into_owned()).collect()
}

/// Whatever still runs of a tree: by mark and by session, zombies included.
fn left_of(process: &Process) -> Vec<process::Member> {
    let info = process.info();
    let mut left = process::members(info.pid, info.start_ticks, &info.mark);
    left.extend(process::find_marked(&info.mark));
    left
}

async fn evaluate(browser: &Browser, session: &SessionInfo, expression: &str) -> Value {
    let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
    let answer = browser.connection().call_raw(Some(&session.id), "Runtime.evaluate", params, SOON).await;
    let answer: Value = answer.unwrap().decode().unwrap();
    answer["result"]["value"].clone()
}

const SPREAD: &[(&str, &str, &str)] = &[
    (
        "/page",
        "<title>p</title><script>fetch('/from-page')</script>
         <iframe src='http://a.localhost:{port}/frame'></iframe>
         <script>new Worker('/worker.js')
         new SharedWorker('/shared.js')
         navigator.serviceWorker.register('/sw.js')
         window.open('http://a.localhost:{port}/popup')</script>",
        "",
    ),
    ("/frame", "<script>fetch('/from-frame')</script>", ""),
    ("/worker.js", "fetch('/from-worker')", ""),
    ("/shared.js", "fetch('/from-shared')", ""),
    ("/sw.js", "oninstall = e => e.waitUntil(fetch('/from-sw'))", ""),
    ("/popup", "<script>fetch('/from-popup')</script>", ""),
];

/// The findings that made us write this client: all of these were lost by another one. R9
#[tokio::test]
async fn first_requests_of_every_kind_of_target_are_seen_in_their_session_and_context() {
    let (site, root) = (Site::start(SPREAD).await, tempfile::tempdir().unwrap());
    // The page opens a window without a click.
    let extra_args = vec!["--disable-popup-blocking".to_owned()];
    let browser = started(ChromiumOptions { extra_args, ..options(root.path()) }).await;
    let context = browser.create_context(None, SOON).await.unwrap();
    let other = browser.create_context(None, SOON).await.unwrap();
    let mut events = browser.connection().subscribe(Filter::contexts([context.clone()]));
    let mut elsewhere =
        browser.connection().subscribe(Filter::contexts([other.clone()]).methods(["Network."]));
    let page = browser.create_page(Some(&context), &site.url("127.0.0.1", "/page"), SOON).await.unwrap();
    assert!(page.hook_failures.is_empty(), "{:?}", page.hook_failures);
    assert_eq!(page.navigation_error, None);
    let wanted: HashMap<&str, &str> = [
        ("/page", "page"),
        ("/from-page", "page"),
        // The document of a cross-site frame is asked for by the page, before the frame moves out.
        ("/frame", "page"),
        ("/from-frame", "iframe"),
        ("/from-worker", "worker"),
        ("/from-shared", "shared_worker"),
        ("/from-sw", "service_worker"),
        ("/popup", "page"),
        ("/from-popup", "page"),
    ]
    .into();
    let mut seen: HashMap<String, Arc<SessionInfo>> = HashMap::new();
    let mut others = Vec::new();
    while wanted.keys().any(|path| !seen.contains_key(*path)) {
        let missing: Vec<_> = wanted.keys().filter(|p| !seen.contains_key(**p)).collect();
        let event = timeout(SOON / 2, next_event(&mut events)).await;
        let event = event.unwrap_or_else(|_| panic!("never seen: {missing:?}; others: {others:?}"));
        if &*event.method != "Network.requestWillBeSent" {
            continue;
        }
        let params: Value = event.params.decode().unwrap();
        let url = url::Url::parse(params["request"]["url"].as_str().unwrap()).unwrap();
        let session = event.session.clone().unwrap();
        assert_eq!(session.context_id.as_ref(), Some(&context), "{url}");
        if let Some(kind) = wanted.get(url.path()) {
            if &*session.kind == *kind {
                assert!(seen.insert(url.path().to_owned(), session).is_none(), "{url} seen twice");
            } else {
                others.push(format!("{url} in {}", session.kind));
            }
        }
    }
    assert_eq!(seen["/from-page"].id, page.session.id);
    assert_eq!(seen["/from-frame"].parent, Some(page.session.id.clone()));
    assert_eq!(seen["/from-worker"].parent, Some(page.session.id.clone()));
    assert_eq!(seen["/popup"].opener_id, Some(page.target_id.clone()));
    assert!(seen.values().all(|s| s.was_paused), "everything was held until it was set up");
    assert!(elsewhere.try_recv().is_none(), "another context sees nothing");
    let stats = browser.connection().stats();
    assert_eq!((stats.undecodable, stats.oversized), (0, 0), "{stats:?}");
    browser.dispose_context(&context, SOON).await.unwrap();
    until(|| browser.connection().sessions().iter().all(|s| s.context_id.as_ref() != Some(&context))).await;
    browser.close(SOON).await;
}

async fn until(done: impl Fn() -> bool) {
    let limit = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < limit, "not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// F1, T07, T11
#[tokio::test]
async fn closing_leaves_no_process_and_no_profile() {
    let root = tempfile::tempdir().unwrap();
    let mut ends = process::subscribe();
    let languages = "de-CH,de".to_owned();
    let browser = started(ChromiumOptions { languages, ..options(root.path()) }).await;
    assert!(browser.version().product.starts_with("Chrome/"), "{:?}", browser.version());
    assert!(browser.launch_time() < Duration::from_secs(30));
    assert!(browser.command_line().iter().any(|a| a == "--remote-debugging-pipe"));
    let page = browser.create_page(None, "about:blank", SOON).await.unwrap();
    assert_eq!(evaluate(&browser, &page.session, "navigator.webdriver").await, json!(false));
    assert_eq!(evaluate(&browser, &page.session, "navigator.languages").await, json!(["de-CH", "de"]));
    let process = browser.process().clone();
    assert!(process.tree().len() > 3);
    assert!(process::running().iter().any(|p| p.pid == process.pid()));
    assert_eq!(left_in(root.path()).len(), 1);
    let started = Instant::now();
    let closed = browser.close(SOON).await;
    assert_eq!(closed.process.exit.code, Some(0), "{:?}", process.stderr_tail());
    assert!(!closed.process.forced && closed.profile_left.is_none());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(left_of(&process), []);
    assert_eq!(left_in(root.path()), [""; 0]);
    loop {
        match timeout(SOON, ends.recv()).await.unwrap().unwrap() {
            process::ProcessEvent::Gone { info, sweep } if info.pid == process.pid() => {
                assert!(sweep.survivors.is_empty());
                break;
            }
            _ => {}
        }
    }
    assert!(!process::running().iter().any(|p| p.pid == process.pid()));
}

/// T02, T11
#[tokio::test]
async fn killing_the_browser_ends_calls_and_streams_at_once_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let browser = started(options(root.path())).await;
    let context = browser.create_context(None, SOON).await.unwrap();
    let page = browser.create_page(Some(&context), "about:blank", SOON).await.unwrap();
    let mut events = browser.connection().subscribe(Filter::all());
    let forever = json!({"expression": "new Promise(() => {})", "awaitPromise": true});
    let hour = Duration::from_secs(3600);
    let pending = browser.connection().call_raw(Some(&page.session.id), "Runtime.evaluate", forever, hour);
    let (process, killed_at) = (browser.process().clone(), Instant::now());
    let kill = async {
        let pid = rustix::process::Pid::from_raw(process.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while events.recv().await.is_some() {}
    };
    let second = Duration::from_secs(1);
    let both = timeout(second, async { tokio::join!(pending, kill) }).await;
    let (ended, ()) = both.expect("calls and streams end within a second");
    assert!(matches!(&ended, Err(e @ CallError::Closed { .. }) if e.is_fatal()), "{ended:?}");
    let (exit, sweep) = timeout(SOON, process.wait_gone()).await.unwrap();
    assert_eq!((exit.signal, sweep.survivors.len()), (Some(9), 0));
    assert!(killed_at.elapsed() < Duration::from_secs(5), "{:?}", killed_at.elapsed());
    assert_eq!(left_of(&process), []);
    let closed = browser.close(SOON).await;
    assert!(closed.profile_left.is_none());
    assert_eq!(left_in(root.path()), [""; 0]);
}

/// A hung page blocks its own session only. T03
#[tokio::test]
async fn a_call_that_is_never_answered_times_out_and_the_rest_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let browser = started(options(root.path())).await;
    let page = browser.create_page(None, "about:blank", SOON).await.unwrap();
    let limit = Duration::from_millis(300);
    let spin = json!({"expression": "while (1);"});
    let asked = Instant::now();
    let stuck = browser.connection().call_raw(Some(&page.session.id), "Runtime.evaluate", spin, limit).await;
    assert!(matches!(stuck, Err(CallError::Timeout { .. })), "{stuck:?}");
    assert!(asked.elapsed() < 2 * limit);
    browser.connection().call_raw(None, "Browser.getVersion", json!({}), SOON).await.unwrap();
    browser.close_page(&page.target_id, SOON).await.unwrap();
    until(|| browser.connection().session(&page.session.id).is_none()).await;
    let refused = browser.connection().call_raw(None, "No.such", json!({}), SOON).await;
    assert!(matches!(refused, Err(CallError::Protocol { code: -32601, .. })), "{refused:?}");
    let gone = browser.connection().call_raw(Some(&page.session.id), "Page.enable", json!({}), SOON).await;
    assert!(gone.unwrap_err().is_session_gone());
    browser.close(SOON).await;
}

/// Navigates and waits for the load event.
async fn visit(browser: &Browser, session: &SessionInfo, url: &str) {
    let only = Filter::sessions([session.id.clone()]).methods(["Page.loadEventFired"]);
    let mut loads = browser.connection().subscribe(only);
    let go = json!({"url": url});
    browser.connection().call_raw(Some(&session.id), "Page.navigate", go, SOON).await.unwrap();
    next_event(&mut loads).await;
}

const COOKIES: &[(&str, &str, &str)] = &[
    ("/top", "<iframe src='http://localhost:{port}/third'></iframe>", ""),
    ("/third", "third", "Set-Cookie: t=1; SameSite=None; Secure\r\n"),
];

async fn third_party_cookies_kept(site: &Site, root: &Path, how: ThirdPartyCookies) -> bool {
    let browser = started(ChromiumOptions { third_party_cookies: how, ..options(root) }).await;
    let context = browser.create_context(None, SOON).await.unwrap();
    let page = browser.create_page(Some(&context), "about:blank", SOON).await.unwrap();
    visit(&browser, &page.session, &site.url("127.0.0.1", "/top")).await;
    let params = json!({"browserContextId": context});
    let answer = browser.connection().call_raw(None, "Storage.getCookies", params, SOON).await.unwrap();
    browser.close(SOON).await;
    answer.get().contains("\"t\"")
}

#[tokio::test]
async fn third_party_cookies_follow_the_option() {
    let (site, root) = (Site::start(COOKIES).await, tempfile::tempdir().unwrap());
    assert!(third_party_cookies_kept(&site, root.path(), ThirdPartyCookies::Always).await);
    assert!(!third_party_cookies_kept(&site, root.path(), ThirdPartyCookies::Never).await);
}

/// F4
#[tokio::test]
async fn an_extension_is_active_in_contexts_and_left_unattached() {
    let (site, root) = (Site::start(SPREAD).await, tempfile::tempdir().unwrap());
    let extension = tempfile::tempdir().unwrap();
    let manifest = json!({"manifest_version": 3, "name": "t", "version": "1",
        "background": {"service_worker": "sw.js"},
        "content_scripts": [{"matches": ["<all_urls>"], "js": ["c.js"], "run_at": "document_start", "world": "MAIN"}]});
    std::fs::write(extension.path().join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(extension.path().join("c.js"), "window.injected = document.readyState").unwrap();
    std::fs::write(extension.path().join("sw.js"), "").unwrap();
    let browser = started(options(root.path())).await;
    let id = browser.load_extension(extension.path(), SOON).await.unwrap();
    assert_eq!(id.len(), 32);
    let context: ContextId = browser.create_context(None, SOON).await.unwrap();
    let page = browser.create_page(Some(&context), "about:blank", SOON).await.unwrap();
    visit(&browser, &page.session, &site.url("127.0.0.1", "/popup")).await;
    assert_eq!(evaluate(&browser, &page.session, "window.injected").await, json!("loading"));
    assert!(browser.connection().sessions().iter().all(|s| !s.url.starts_with("chrome-extension:")));
    browser.close(SOON).await;
}

#[tokio::test]
async fn a_browser_that_cannot_start_says_why_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let missing = ChromiumOptions { executable: Some("/no/such/chromium".into()), ..options(root.path()) };
    let error = launch(missing).await.unwrap_err();
    assert!(matches!(&error, LaunchError::NotFound { .. }));
    assert!(error.to_string().contains("/no/such/chromium") && error.to_string().contains("apt install"));
    let script = root.path().join("dies");
    std::fs::write(&script, "#!/bin/sh\necho 'out of luck' >&2\nexit 7\n").unwrap();
    let mut mode = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o700);
    std::fs::set_permissions(&script, mode).unwrap();
    let dies = ChromiumOptions { executable: Some(script.clone()), ..options(root.path()) };
    match launch(dies).await.unwrap_err() {
        LaunchError::Exited { exit, stderr, .. } => {
            assert_eq!((exit.code, stderr.as_str()), (Some(7), "out of luck\n"));
        }
        other => panic!("{other}"),
    }
    std::fs::write(&script, "#!/bin/sh\necho 'thinking' >&2\nexec sleep 600\n").unwrap();
    let deadline = Duration::from_millis(500);
    let hangs = ChromiumOptions { executable: Some(script), deadline, ..options(root.path()) };
    match launch(hangs).await.unwrap_err() {
        LaunchError::Deadline { after, stderr } => {
            assert_eq!((after, stderr.as_str()), (deadline, "thinking\n"));
        }
        other => panic!("{other}"),
    }
    assert_eq!(left_in(root.path()), ["dies"]);
}

/// T10: in a container our session may lead outside of the PID namespace, where it has the number 0.
#[test]
fn a_tree_ends_whole_in_a_pid_namespace_whose_session_leads_outside() {
    let inside = |program: &Path, args: &[&str]| {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]).arg(program).args(args).output().unwrap()
    };
    let possible = inside(Path::new("true"), &[]);
    if !possible.status.success() {
        eprintln!("NOT TESTED, no PID namespace to be had: {}", String::from_utf8_lossy(&possible.stderr));
        return;
    }
    let me = std::env::current_exe().unwrap();
    let done = inside(&me, &["--exact", "a_tree_ends_whole_even_where_it_hides"]);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// T10: a descendant that leaves the session and its parent is still ours, and is reaped.
#[tokio::test]
async fn a_tree_ends_whole_even_where_it_hides() {
    let script = "setsid sh -c 'sleep 600 & sleep 600' & trap '' TERM; echo up; sleep 600 & wait; wait";
    let process = process::spawn(Spawn::new("test", "/bin/sh").arg("-c").arg(script)).await.unwrap();
    until(|| process.stdout_tail() == "up\n" && process.tree().len() >= 5).await;
    let ended = process.terminate(Duration::from_millis(200)).await;
    assert!(ended.forced && ended.sweep.survivors.is_empty());
    assert_eq!(ended.exit.signal, Some(9));
    assert_eq!(left_of(&process), []);
    let process = process::spawn(Spawn::new("test", "/bin/sh").arg("-c").arg(script)).await.unwrap();
    until(|| process.tree().len() >= 5).await;
    let (info, gone) = (process.info().clone(), process.exited());
    drop(process);
    assert_eq!(timeout(SOON, gone).await.unwrap().signal, Some(9), "dropping the handle kills");
    until(|| process::members(info.pid, info.start_ticks, &info.mark).is_empty()).await;
}
