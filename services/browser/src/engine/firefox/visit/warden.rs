//! Watches the tabs of a visit: how far the main page is, and that they do not become too many (M25).
//!
//! Dialogs are answered by the session (`unhandledPromptBehavior`), those of HTTP authentication by
//! [`super::super::chrome::START`].

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::firefox::bidi::{Bidi, Event, Events, Item};

/// Popups that may stay open at once; more are closed when they come.
const POPUPS: usize = 16;
/// Navigations remembered, of each kind.
const REMEMBERED: usize = 64;
/// Requests that are followed at once.
const REQUESTS: usize = 10_000;
/// For the state of the page after events were lost.
const STATE: Duration = Duration::from_secs(5);

/// How far the main page is.
#[derive(Debug, Clone, Default)]
pub(super) struct PageState {
    /// Navigations that came to a document, oldest first.
    commits: VecDeque<String>,
    /// Those that came to nothing, or to a download.
    failures: VecDeque<String>,
    /// URLs of downloads, oldest first, each with its number.
    downloads: VecDeque<(u64, String)>,
    /// Downloads so far.
    pub downloaded: u64,
    documents: u64,
    /// Begins of navigations, documents, and changes of the URL so far.
    pub moves: u64,
    pub committed_at: Option<Instant>,
    /// Documents and error pages so far.
    pub pages: u64,
    /// Which error page it shows instead of a document, as `dnsNotFound`.
    pub error_page: Option<String>,
    pub url: String,
    /// The navigation that has begun last, until it has come to something.
    begun: Option<String>,
    pub dom_content: bool,
    pub load: bool,
    /// Requests that have no answer, where they are counted.
    pub open: usize,
    /// When a request was made or answered last.
    pub last_activity: Option<Instant>,
    /// Why nothing will come of it any more.
    pub gone: Option<String>,
}

impl PageState {
    pub fn has_committed(&self, navigation: &str) -> bool {
        self.commits.iter().any(|n| n == navigation)
    }

    /// Whether a navigation has begun that has come to nothing yet.
    pub fn is_navigating(&self) -> bool {
        self.begun.is_some()
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Whether this navigation left the page where it was.
    pub fn has_failed(&self, navigation: &str) -> bool {
        self.failures.iter().any(|n| n == navigation)
    }

    /// Whether this URL became a download after the first `before`. Firefox sometimes tells of a navigation and of the
    /// download that it comes to by two ids.
    pub fn has_downloaded(&self, url: &str, before: u64) -> bool {
        self.downloads.iter().any(|(number, downloaded)| *number > before && downloaded == url)
    }

    fn download(&mut self, event: &Event) {
        self.downloaded += 1;
        push(&mut self.downloads, (self.downloaded, event.text("url").to_owned()));
        push(&mut self.failures, event.text("navigation").to_owned());
    }

    fn reached(&mut self, event: &Event) {
        push(&mut self.commits, event.text("navigation").to_owned());
        event.text("url").clone_into(&mut self.url);
    }

    fn committed(&mut self, event: &Event) {
        (self.dom_content, self.load) = (false, false);
        self.pages += 1;
        self.error_page = error_page(event.text("url")).map(str::to_owned);
        match self.error_page.as_deref() {
            None => {
                self.documents += 1;
                self.committed_at = Some(Instant::now());
                self.reached(event);
            }
            Some("tabcrashed") => self.lose("the page's process crashed"),
            Some(_) => self.url.clear(),
        }
    }

    /// Notes which navigation is under way, and that there was a move; whether anything has changed.
    fn follow(&mut self, event: &Event) -> bool {
        let Some(what) = event.method.strip_prefix("browsingContext.") else { return false };
        let navigation = event.text("navigation");
        let moved = matches!(
            what,
            "navigationStarted" | "navigationCommitted" | "fragmentNavigated" | "historyUpdated"
        );
        self.moves += u64::from(moved);
        let ended = match what {
            "navigationStarted" => {
                self.begun = Some(navigation.to_owned());
                false
            }
            "navigationCommitted" | "fragmentNavigated" | "navigationFailed" | "downloadWillBegin" => {
                self.begun.take_if(|begun| begun == navigation).is_some()
            }
            _ => false,
        };
        moved || ended
    }

    /// The first reason counts.
    fn lose(&mut self, why: &str) {
        self.gone.get_or_insert_with(|| why.to_owned());
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > REMEMBERED {
        list.pop_front();
    }
}

/// `dnsNotFound` of `about:neterror?e=dnsNotFound&u=…`.
fn error_page(url: &str) -> Option<&str> {
    let (page, rest) = url.strip_prefix("about:")?.split_once("?e=")?;
    (page.ends_with("error") || page == "tabcrashed").then(|| rest.split('&').next().unwrap_or(rest))
}

pub(super) struct Warden {
    pub bidi: Bidi,
    pub events: Events,
    pub main: String,
    pub state: watch::Sender<PageState>,
}

impl Warden {
    /// Runs until the connection ends, or it is dropped with its visit.
    pub async fn run(mut self) {
        let mut popups = HashSet::new();
        let mut open = HashSet::new();
        while let Some(item) = self.events.recv().await {
            let event = match item {
                Item::Event(event) => event,
                Item::Lost(events) => {
                    tracing::warn!(events, "a page made more events than could be taken");
                    open.clear();
                    self.look_again().await;
                    continue;
                }
            };
            match event.method.as_str() {
                "browsingContext.contextCreated" if event.text("context") != self.main => {
                    popups.insert(event.text("context").to_owned());
                    if popups.len() > POPUPS {
                        self.close(event.text("context").to_owned());
                    }
                }
                "browsingContext.contextDestroyed" => {
                    popups.remove(event.text("context"));
                    if event.text("context") == self.main {
                        self.gone("the page was closed");
                    }
                }
                method if method.starts_with("network.") => self.on_network(&event, &mut open),
                _ => self.on_main(&event),
            }
        }
        self.gone("the connection to the browser ended");
    }

    fn on_main(&self, event: &Event) {
        self.state.send_if_modified(|s| s.follow(event));
        match event.method.as_str() {
            "browsingContext.navigationCommitted" => self.state.send_modify(|s| s.committed(event)),
            "browsingContext.fragmentNavigated" => self.state.send_modify(|s| s.reached(event)),
            "browsingContext.historyUpdated" => {
                self.state.send_modify(|s| event.text("url").clone_into(&mut s.url));
            }
            "browsingContext.downloadWillBegin" => self.state.send_modify(|s| s.download(event)),
            "browsingContext.navigationFailed" => {
                self.state.send_modify(|s| push(&mut s.failures, event.text("navigation").to_owned()));
            }
            "browsingContext.domContentLoaded" => self.state.send_modify(|s| s.dom_content = true),
            "browsingContext.load" => self.state.send_modify(|s| s.load = true),
            _ => {}
        }
    }

    fn on_network(&self, event: &Event, open: &mut HashSet<String>) {
        let Some(request) = event.params["request"]["request"].as_str() else { return };
        match event.method.as_str() {
            "network.beforeRequestSent" if open.len() < REQUESTS => {
                open.insert(request.to_owned());
            }
            "network.responseCompleted" | "network.fetchError" => {
                open.remove(request);
            }
            _ => {}
        }
        self.state.send_modify(|s| (s.open, s.last_activity) = (open.len(), Some(Instant::now())));
    }

    /// Asks for what the lost events would have told.
    async fn look_again(&self) {
        let expression = "document.readyState + ' ' + location.href";
        let text = self.bidi.isolated(&self.main, expression, STATE).await.ok().flatten();
        let Some((ready, url)) = text.as_deref().and_then(|text| text.split_once(' ')) else { return };
        self.state.send_modify(|s| {
            url.clone_into(&mut s.url);
            s.dom_content |= ready != "loading";
            s.load |= ready == "complete";
            (s.open, s.last_activity) = (0, Some(Instant::now()));
        });
    }

    fn close(&self, context: String) {
        let bidi = self.bidi.clone();
        tokio::spawn(async move {
            if let Err(error) = bidi.call("browsingContext.close", json!({"context": context}), STATE).await {
                tracing::debug!(%error, "a popup could not be closed");
            }
        });
    }

    fn gone(&self, why: &str) {
        self.state.send_modify(|s| s.lose(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(url: &str) -> PageState {
        let mut state = PageState { load: true, ..PageState::default() };
        let params = json!({"context": "c", "navigation": "n", "url": url});
        state.committed(&Event { method: "browsingContext.navigationCommitted".to_owned(), params });
        state
    }

    #[test]
    fn documents_error_pages_and_crashes_are_told_apart() {
        let page = committed("http://a.test/?e=x");
        assert!(page.has_committed("n") && !page.load && page.error_page.is_none());
        assert_eq!((page.documents(), page.url.as_str()), (1, "http://a.test/?e=x"));
        let error = committed("about:neterror?e=dnsNotFound&u=http%3A//a.test/&c=UTF-8");
        assert_eq!((error.error_page.as_deref(), error.documents()), (Some("dnsNotFound"), 0));
        assert!(!error.has_committed("n") && error.url.is_empty());
        assert_eq!(committed("about:certerror?e=nssBadCert").error_page.as_deref(), Some("nssBadCert"));
        assert!(committed("about:tabcrashed?e=tabcrashed&u=x").gone.is_some());
        assert_eq!(committed("about:blank").documents(), 1);
    }

    #[test]
    fn a_download_is_known_by_its_url_whatever_navigation_it_names() {
        let mut state = PageState::default();
        let params = json!({"context": "c", "navigation": "other", "url": "http://a.test/file"});
        state.download(&Event { method: "browsingContext.downloadWillBegin".into(), params });
        assert!(state.has_failed("other") && state.has_downloaded("http://a.test/file", 0));
        assert!(!state.has_downloaded("http://a.test/file", 1), "one before the navigation is another's");
        assert!(!state.has_downloaded("http://a.test/", 0));
    }
}
