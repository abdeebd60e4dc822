//! From log and reports to rows.

use std::collections::{BTreeSet, HashSet};

use super::{
    Body, Calls, Cookie, Expected, Failure, FailureClass, Frame, Message, Navigation, Redirect, Request,
    Response, Rows, Script,
};
use super::{code, wire};
use crate::log::Hit;
use crate::site::Site;
use crate::truth::Truth;

/// The rows every page has: one request per hit, its response or redirect, its cookies, its navigation, and
/// what the pages reported. Call it once the visit is over: it knows what happened until now.
pub fn from_site(token: &str, site: &Site) -> Expected {
    let mut expected = Expected::default();
    let mut worker_scripts = HashSet::new();
    let mut hung_up = HashSet::new();
    let hits = site.hits_for(token);
    for hit in &hits {
        // When a kept connection ends without an answer, a browser takes another one: that is no request of its own.
        if matches!(hit.path_only(), "/r/reset" | "/r/close") && !hung_up.insert(hit.url.clone()) {
            continue;
        }
        // A browser asks for the script of a service worker again to see whether it has changed. That may come at
        // any time, belongs to no page, and Chromium's DevTools do not show it.
        let again = hit.header("service-worker").is_some() && !worker_scripts.insert(hit.url.clone());
        let due = !again && !matches!(hit.path_only(), "/favicon.ico" | "/csp-report");
        if hit.path_only() == "/truth" && hit.path.contains("&settled=") {
            last_report(hit, &mut expected);
            continue;
        }
        let rows = if due { &mut expected.required } else { &mut expected.optional };
        http_rows(hit, rows);
        wire::rows(hit, rows);
        code::fetched(hit, rows);
        // Whether a body can be had before its page, popup or worker is gone is a race that the row tells of; a body that
        // is stored must be the one that was sent.
        expected.optional.bodies.extend(body_of(hit));
        if let Some(row) = unfinished(hit) {
            expected.optional.http_responses.push(row);
        }
        cookie_rows(hit, &mut expected);
    }
    code::redirected(&hits, &mut expected.required.scripts);
    let truth = site.truth(token);
    for failure in truth.failures.iter().filter(|failure| failure.reached) {
        failed_rows(&failure.url, &mut expected);
    }
    // What a cache answers is what the site has sent before.
    for url in &truth.cached {
        let known: Vec<Body> =
            site.hits_for(token).iter().filter(|h| h.url == *url).filter_map(body_of).collect();
        let again = known.iter().map(|body| Script::fetched(url, &body.sha256));
        expected.optional.scripts.extend(again);
        expected.optional.bodies.extend(known);
    }
    truth_rows(truth, &mut expected);
    // A browser tells the blank document of an iframe without a source, or not, as its own.
    let blank = Navigation { url: "about:blank".into(), kind: Some("blank".into()) };
    expected.optional.navigations.extend(std::iter::repeat_n(blank, BLANKS));
    // Nobody waits for an icon: that its request is given up with the page is no failure of the site, and it may not
    // have reached it.
    let origin = |hit: &Hit| hit.url.strip_suffix(&hit.path).map(str::to_owned);
    let own = site.url(crate::pages::HOST, "");
    let origins: BTreeSet<String> = hits.iter().filter_map(origin).chain([own]).collect();
    let icons = |origin: &String| {
        [String::new(), format!("?v={token}")].map(|query| format!("{origin}/favicon.ico{query}"))
    };
    for url in origins.iter().flat_map(icons) {
        // Each document of the page that went may have begun one.
        for class in [FailureClass::Aborted, FailureClass::Other] {
            let given_up = Failure { url: url.clone(), class };
            expected.optional.http_failures.extend(std::iter::repeat_n(given_up, ICONS));
        }
    }
    for hit in site.hits_for(token).iter().filter(|hit| hit.path_only() == "/favicon.ico") {
        // For its next documents a browser asks its cache, or does not ask at all.
        for _ in 0..ICONS {
            http_rows(hit, &mut expected.optional);
            wire::rows(hit, &mut expected.optional);
        }
    }
    expected
}

/// Documents of one page that show its icon again, at most.
const ICONS: usize = 16;

/// Blank documents of one page, at most.
const BLANKS: usize = 64;

/// [`from_site`] for a page that breaks its own policy once.
pub fn one_csp_report(token: &str, site: &Site) -> Expected {
    let mut expected = from_site(token, site);
    let url = site.url(crate::pages::HOST, &format!("/r/pixel.png?v={token}"));
    expected.required.http_failures.push(Failure { url, class: FailureClass::Blocked });
    Expected { csp_reports: 1, ..expected }
}

/// [`from_site`] for a page with a resource that never ends: the browser may record its end as a failure.
pub fn hanging(token: &str, site: &Site) -> Expected {
    let mut expected = from_site(token, site);
    // A document that is stopped while it loads is told twice: committed, and failed.
    let failed = |navigation: &Navigation| Navigation { kind: Some("failed".into()), ..navigation.clone() };
    let stopped: Vec<_> = expected.required.navigations.iter().map(failed).collect();
    expected.optional.navigations.extend(stopped.clone());
    // Firefox says so once more when the stopped document goes.
    expected.optional.navigations.extend(stopped);
    for hit in site.hits_for(token).iter().filter(|hit| hit.path_only() == "/r/hang") {
        // Its end is the page's, or that of the visit.
        for class in [FailureClass::Aborted, FailureClass::Other] {
            expected.optional.http_failures.push(Failure { url: hit.url.clone(), class });
        }
    }
    expected
}

/// [`from_site`] for a page that starts a download: a browser turns that navigation into an aborted request.
pub fn downloading(token: &str, site: &Site) -> Expected {
    let mut expected = from_site(token, site);
    for hit in site.hits_for(token).iter().filter(|hit| hit.path_only() == "/r/download") {
        expected.required.navigations.retain(|navigation| navigation.url != hit.url);
        expected.optional.navigations.push(Navigation { url: hit.url.clone(), kind: Some("failed".into()) });
        expected.optional.http_failures.push(Failure { url: hit.url.clone(), class: FailureClass::Aborted });
    }
    expected
}

/// A request that fails has the row of its failure. Whether the answer that the browser refused has one, too, is left
/// open, and a redirect that was not followed is none.
fn failed_rows(url: &str, Expected { required, optional, .. }: &mut Expected) {
    // The site knows the handshake of a WebSocket as the request it is.
    let url = url.strip_prefix("ws:").map_or_else(|| url.to_owned(), |rest| format!("http:{rest}"));
    refused_answer(&url, required, optional);
    if let Some(at) = required.http_redirects.iter().position(|redirect| redirect.old == url) {
        let redirect = required.http_redirects.remove(at);
        optional.http_responses.push(Response { url: url.clone(), status: redirect.status });
        optional.http_redirects.push(redirect);
    }
    if let Some(at) = required.http_responses.iter().position(|response| response.url == url) {
        optional.http_responses.push(required.http_responses.remove(at));
    }
    if let Some(at) = required.navigations.iter().position(|navigation| navigation.url == url) {
        optional.navigations.push(required.navigations.remove(at));
    }
}

/// The visit ends when this request has reached the site: its answer may come or not, and what the browser still would say
/// of its headers.
fn last_report(hit: &Hit, Expected { required, optional, unreached, .. }: &mut Expected) {
    let mut rows = Rows::default();
    http_rows(hit, &mut rows);
    wire::rows(hit, &mut rows);
    required.http_requests.append(&mut rows.http_requests);
    unreached.push(hit.url.clone());
    required.post_bodies.append(&mut rows.post_bodies);
    optional.http_responses.append(&mut rows.http_responses);
    optional.response_headers.append(&mut rows.response_headers);
    optional.dns_responses.append(&mut rows.dns_responses);
    for class in [FailureClass::Aborted, FailureClass::Other] {
        optional.http_failures.push(Failure { url: hit.url.clone(), class });
    }
}

/// What of an answer that the browser refused is recorded is left open.
fn refused_answer(url: &str, required: &mut Rows, optional: &mut Rows) {
    let of_url = |message: &mut Message| message.of.split_once(' ').is_some_and(|(_, of)| of == url);
    optional.response_headers.extend(required.response_headers.extract_if(.., of_url));
    optional.dns_responses.extend(required.dns_responses.extract_if(.., |name| name.url == url));
    optional.scripts.extend(required.scripts.extract_if(.., |script| script.url.as_deref() == Some(url)));
}

fn complete(hit: &Hit) -> bool {
    hit.response_body.as_ref().is_some_and(|body| body.complete)
}

/// A response that began and did not end is a failure; whether it also has a response row is left open.
fn unfinished(hit: &Hit) -> Option<Response> {
    let status = hit.status.filter(|_| !complete(hit))?;
    Some(Response { url: hit.url.clone(), status })
}

fn body_of(hit: &Hit) -> Option<Body> {
    let body = hit.response_body.as_ref().filter(|body| body.complete && body.len > 0)?;
    let sent = hit.status == Some(200) && hit.method != "HEAD";
    sent.then(|| Body { url: hit.url.clone(), sha256: body.sha256.clone() })
}

fn http_rows(hit: &Hit, rows: &mut Rows) {
    rows.http_requests.push(Request::sent(&hit.method, &hit.url));
    let Some(status) = hit.status else { return };
    if let Some(new) = &hit.location {
        rows.http_redirects.push(Redirect { old: hit.url.clone(), new: new.clone(), status });
        return;
    }
    // A switch of protocols has no body that could end.
    if complete(hit) || status == 101 {
        rows.http_responses.push(Response { url: hit.url.clone(), status });
    }
    let navigates = hit.header("sec-fetch-mode") == Some("navigate");
    if navigates && status != 204 {
        rows.navigations.push(Navigation { url: hit.url.clone(), kind: Some("document".into()) });
    }
}

/// The date that our pages delete cookies by.
const DELETING_DATE: &str = "expires=thu, 01 jan 1970 00:00:00 gmt";

/// A cookie set for the site of the page is due; one set in a third-party context is up to the browser's policy.
fn cookie_rows(hit: &Hit, expected: &mut Expected) {
    let rows = match hit.header("sec-fetch-site") {
        Some("cross-site") => &mut expected.optional,
        _ => &mut expected.required,
    };
    for line in &hit.set_cookies {
        let mut parts = line.split(';').map(str::trim);
        let Some((name, _)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
        let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
        let domain = attributes.iter().find_map(|attribute| attribute.strip_prefix("domain="));
        rows.javascript_cookies.push(Cookie {
            name: name.trim().to_owned(),
            host: domain.map_or(hit.host.as_str(), |domain| domain.trim_start_matches('.')).to_owned(),
            deleted: attributes.iter().any(|a| a == "max-age=0" || a == DELETING_DATE),
            how: Some("http".into()),
        });
    }
}

fn truth_rows(truth: Truth, expected: &mut Expected) {
    let Expected { required, optional, unreached, .. } = expected;
    for (calls, in_worker) in [(truth.calls, false), (truth.worker_calls, true)] {
        for (key, count) in calls {
            let (operation, symbols) = key.split_once(' ').unwrap_or(("call", key.as_str()));
            let symbols = symbols.split('|').map(str::to_owned).collect();
            let operation = operation.to_owned();
            required.javascript.push(Calls { symbols, operation, count, in_worker });
        }
    }
    for cookie in truth.cookies {
        let rows = if cookie.policy { &mut *optional } else { &mut *required };
        let (name, host, deleted) = (cookie.name, cookie.host, cookie.deleted);
        rows.javascript_cookies.push(Cookie { name, host, deleted, how: Some("script".into()) });
    }
    for navigation in truth.navigations {
        let rows = if navigation.optional { &mut *optional } else { &mut *required };
        rows.navigations.push(Navigation { url: navigation.url, kind: Some(navigation.kind) });
    }
    for failure in truth.failures {
        if !failure.reached && !failure.unsent {
            required.http_requests.push(Request::sent("GET", &failure.url));
            unreached.push(failure.url.clone());
        }
        let class = FailureClass::of(&failure.class);
        if class == FailureClass::Dns {
            required.dns_responses.extend(wire::name(&failure.url, None));
        }
        required.http_failures.push(Failure { url: failure.url, class });
    }
    for url in truth.cached {
        optional.http_requests.push(Request::sent("GET", &url));
        // Firefox does not tell the status of what a service worker answers.
        for status in [0, 200, 304] {
            optional.http_responses.push(Response { url: url.clone(), status });
        }
    }
    for url in truth.unrun {
        required.scripts.retain(|script| script.url.as_ref() != Some(&url));
    }
    required.scripts.extend(truth.scripts.into_iter().map(code::told));
    for stack in &truth.stacks {
        code::stacks(stack, required);
    }
    for frame in truth.frames {
        let (url, direction, payload) = (frame.url, frame.direction, frame.payload);
        required.websocket_frames.push(Frame { url, direction, payload });
    }
}
