//! The pages: what each is called, where it lives, and what a measurement of it must hold.

use crate::expect::{self, Expected};
use crate::site::Site;

/// One page of the site.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub name: &'static str,
    /// The host to visit it on; every host serves it.
    pub host: &'static str,
    /// Path, to which [`Page::url`] adds the token.
    pub path: &'static str,
    /// The document whose `done` report ends a visit; `None` for a document that reports nothing.
    pub done: Option<&'static str>,
    /// The rows a visit under this token must leave, from the site's log and the pages' reports so far.
    pub expectation: fn(token: &str, site: &Site) -> Expected,
    pub(crate) html: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Page {
    /// The URL of a visit. `extra` is more of the query, e.g. `&n=1000`, or empty.
    pub fn url(&self, site: &Site, token: &str, extra: &str) -> String {
        site.url(self.host, &format!("{}?v={token}{extra}", self.path))
    }

    /// What a visit under this token must have recorded.
    pub fn expected(&self, token: &str, site: &Site) -> Expected {
        (self.expectation)(token, site)
    }
}

pub(crate) const HOST: &str = "site-0.localhost";

macro_rules! text {
    ($name:literal, $kind:literal) => {
        include_str!(concat!("../pages/", $name, ".", $kind))
    };
}

macro_rules! pages {
    ($($name:literal $(until $done:literal)? $(expects $expectation:ident)? $(with $headers:expr)?;)*) => {
        /// Pages to visit, in the order of the documentation.
        pub const PAGES: &[Page] = &[$(Page {
            name: $name,
            host: HOST,
            path: concat!("/p/", $name),
            done: Some(pages!(@done $name $($done)?)),
            expectation: pages!(@expectation $($expectation)?),
            html: text!($name, "html"),
            headers: pages!(@headers $($headers)?),
        }),*];
    };
    (@done $name:literal) => { $name };
    (@done $name:literal $done:literal) => { $done };
    (@expectation) => { expect::from_site };
    (@expectation $expectation:ident) => { expect::$expectation };
    (@headers) => { &[] };
    (@headers $headers:expr) => { $headers };
}

const REPORTING: (&str, &str) = ("reporting-endpoints", "here=\"{{self}}/csp-report?by=endpoint&v={{v}}\"");
const STRICT: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'nonce-{{nonce}}'; connect-src {{self}}/truth; \
         img-src {{self}}/favicon.ico; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'; report-uri /csp-report?by=uri&v={{v}}",
    ),
    (
        "content-security-policy-report-only",
        "default-src 'none'; script-src 'nonce-{{nonce}}'; connect-src {{self}}/truth; \
         img-src {{self}}/favicon.ico; report-to here",
    ),
    REPORTING,
];
const SANDBOX: &[(&str, &str)] = &[(
    "content-security-policy",
    "sandbox allow-scripts; default-src 'none'; script-src 'nonce-{{nonce}}'; connect-src {{self}}/truth; \
     img-src {{self}}/favicon.ico; require-trusted-types-for 'script'; report-uri /csp-report?by=uri&v={{v}}",
)];
const CONTROL: &[(&str, &str)] = &[(
    "content-security-policy",
    "default-src 'none'; script-src 'nonce-{{nonce}}'; connect-src {{self}}/truth; img-src {{self}}/favicon.ico; \
     report-uri /csp-report?by=uri&v={{v}}",
)];

pages! {
    "static-small";
    "two-hundred-requests";
    "redirects";
    "failures" until "failures-next" expects hanging;
    "posts";
    "bodies";
    "cookies";
    "frames";
    "popups";
    "workers";
    "navigation" until "navigation-end";
    "javascript";
    "js-flood";
    "js-unload" until "js-unload-next";
    "hostile-control";
    "hostile-suppress-before";
    "hostile-suppress-after";
    "hostile-forge";
    "csp-strict" with STRICT;
    "csp-sandbox" with SANDBOX;
    "csp-control" expects one_csp_report with CONTROL;
    "cache" until "cache-next";
    "websocket";
    "eventsource";
    "preflight";
    "hang" expects hanging;
    "slow";
    "dialog" until "dialog-loaded";
    "download" expects downloading;
    "infinite-loop";
}

/// Documents that pages lead to; nobody visits them first.
const INNER: &[(&str, &str)] = &[
    ("failures-next", text!("failures-next", "html")),
    ("frame-child", text!("frame-child", "html")),
    ("popup-child", text!("popup-child", "html")),
    ("worker-client", text!("worker-client", "html")),
    ("navigation-refresh", text!("navigation-refresh", "html")),
    ("navigation-form", text!("navigation-form", "html")),
    ("navigation-end", text!("navigation-end", "html")),
    ("js-unload-next", text!("js-unload-next", "html")),
    ("cache-next", text!("cache-next", "html")),
];

const SCRIPTS: &[(&str, &str)] = &[
    ("probe.js", text!("probe", "js")),
    ("calls.js", text!("calls", "js")),
    ("sabotage.js", text!("sabotage", "js")),
    ("worker.js", text!("worker", "js")),
    ("shared.js", text!("shared", "js")),
    ("sw.js", text!("sw", "js")),
];

/// The page of that name, if it is one to visit.
pub fn page(name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.name == name)
}

pub(crate) fn document(name: &str) -> Option<Page> {
    page(name).copied().or_else(|| {
        let (name, html) = *INNER.iter().find(|(inner, _)| *inner == name)?;
        Some(Page {
            name,
            host: HOST,
            path: "/p/",
            done: None,
            expectation: expect::from_site,
            html,
            headers: &[],
        })
    })
}

pub(crate) fn script(name: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}
