//! The fixture site in a real Firefox: the rows that the extension makes of its network are those that the site's own log
//! says are due.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use sonde_site::expect::{Cookie, Failure, FailureClass, Observed, Redirect, Request, Response, Table};
use sonde_site::{Page, Site, SiteOptions, page};
use support::Rows;
use support::extension::firefox::{Rig, SOON, everything};

const TABLES: [Table; 5] = [
    Table::HttpRequests,
    Table::HttpResponses,
    Table::HttpRedirects,
    Table::HttpFailures,
    Table::JavascriptCookies,
];

/// Without a row for so long a page is idle.
const QUIET: Duration = Duration::from_millis(700);

/// blob: URLs never leave the browser, and what the jar did is there beside what had it do so.
fn observed(rows: &Rows) -> Observed {
    let given_up =
        |id: i64| rows.failures().into_iter().any(|f| f.request_id == id && f.canceled && !f.after_response);
    let status = |status: Option<i64>| u16::try_from(status.unwrap_or(0)).unwrap();
    Observed {
        http_requests: rows
            .requests()
            .into_iter()
            .map(|r| Request {
                method: r.method.clone(),
                url: r.url.clone(),
                given_up: given_up(r.request_id),
            })
            .collect(),
        http_responses: rows
            .responses()
            .into_iter()
            .map(|r| Response { url: r.url.clone(), status: status(r.response_status) })
            .collect(),
        http_redirects: rows
            .redirects()
            .into_iter()
            .map(|r| Redirect {
                old: r.old_request_url.clone().unwrap(),
                new: r.new_request_url.clone().unwrap(),
                status: status(Some(r.response_status)),
            })
            .collect(),
        http_failures: rows
            .failures()
            .into_iter()
            .map(|f| Failure { url: f.url.clone(), class: FailureClass::of(&f.error) })
            .collect(),
        javascript_cookies: rows
            .cookies()
            .into_iter()
            .filter(|c| c.source != "jar")
            .map(|c| Cookie {
                name: c.name.clone(),
                host: c.host.clone().unwrap_or_default(),
                deleted: c.record_type == "deleted",
                how: None,
            })
            .collect(),
        ..Observed::default()
    }
}

async fn visit(rig: &mut Rig, site: &Site, visit_id: i64, page: &Page) -> Rows {
    let token = format!("v{visit_id}");
    let (tab, _) = rig.open(visit_id, everything()).await;
    rig.start_loading(&tab, &page.url(site, &token, "")).await;
    site.wait_done(&token, page.done.unwrap(), SOON).await.unwrap();
    let all = |rows: &Rows| {
        let hits = site.hits_for(&token);
        let answered = hits.iter().filter(|hit| hit.path_only() != "/favicon.ico");
        answered.clone().all(|hit| {
            let recorded =
                rows.requests().into_iter().filter(|row| row.url == hit.url && row.method == hit.method);
            recorded.count()
                >= answered.clone().filter(|h| h.url == hit.url && h.method == hit.method).count()
        })
    };
    // What a page still asks for after it is done is there when nothing more comes.
    loop {
        rig.until(visit_id, page.name, all).await;
        if rig.quiet(QUIET).await && all(rig.rows(visit_id)) {
            break;
        }
    }
    rig.finish(visit_id).await
}

/// M10, M12
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_the_fixture_pages_are_those_that_are_due() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let mut rig = Rig::start().await;
    let names = [
        "static-small",
        "redirects",
        "failures",
        "posts",
        "bodies",
        "cookies",
        "frames",
        "popups",
        "workers",
        "csp-control",
        "cache",
        "eventsource",
        "preflight",
        "two-hundred-requests",
    ];
    let mut wrong = Vec::new();
    for (visit_id, name) in (1..).zip(names) {
        let page = page(name).unwrap();
        let rows = visit(&mut rig, &site, visit_id, page).await;
        let (expected, observed) = (page.expected(&format!("v{visit_id}"), &site), observed(&rows));
        for table in TABLES {
            let score = expected.score(table, &observed);
            if !score.is_exact() {
                wrong.push(format!("{name} {table:?}: {score:#?}"));
            }
        }
    }
    rig.close().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
