//! Real-world HTML under ten host names, every request logged.

use sonde_site::{DocOptions, DocSite};

use crate::checker::LoggedRequest;
use crate::workspace;

/// Pages of the documentation site.
pub struct Docs {
    site: DocSite,
    urls: Vec<String>,
}

impl Docs {
    /// Serves `pages` pages, drawn evenly from all, on ten hosts.
    ///
    /// # Panics
    /// When the documentation is not installed, has fewer pages, or no port is free.
    pub async fn start(pages: usize) -> Self {
        let options = DocOptions { hosts: 10, ..DocOptions::new(workspace::documentation()) };
        let site = DocSite::start(options).await.expect("the documentation can be served");
        let all = site.urls();
        assert!(all.len() >= pages, "the documentation has {} pages, {pages} are asked for", all.len());
        let urls = (0..pages).map(|n| all[n * all.len() / pages].clone()).collect();
        Self { site, urls }
    }

    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// A site list of all pages.
    pub fn list(&self) -> String {
        self.urls.join("\n") + "\n"
    }

    /// Requests that have reached the site until now.
    pub fn log(&self) -> Vec<LoggedRequest> {
        assert_eq!(self.site.log_overflow(), 0, "the site's log was too small");
        self.site.log().iter().map(LoggedRequest::from).collect()
    }

    /// Pages of which the document was asked for until now.
    pub fn visited(&self) -> usize {
        let log = self.site.log();
        let asked: std::collections::HashSet<&str> = log.iter().map(|hit| hit.url.as_str()).collect();
        self.urls.iter().filter(|url| asked.contains(url.as_str())).count()
    }

    pub async fn stop(&self) {
        self.site.stop().await.expect("the site's connections end");
    }
}
