//! Whole pages, each of many things: what a user of `sonde crawl --fixture` sees.

use super::group;

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

group! { "tour":
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
    "dialog";
    "download" expects downloading;
    "infinite-loop";
}
