//! Requests that fail, each in one way, and statuses.

use super::group;

/// Policies that refuse one kind of request; the page's own icon and reports pass.
const IMG: &[(&str, &str)] = &[("content-security-policy", "img-src {{self}}/favicon.ico")];
const CONNECT: &[(&str, &str)] = &[("content-security-policy", "connect-src {{self}}/truth")];
const SCRIPT: &[(&str, &str)] = &[("content-security-policy", "script-src 'unsafe-inline' {{self}}/s/")];
const STYLE: &[(&str, &str)] = &[("content-security-policy", "style-src 'none'")];

group! { "failures":
    "fail-refused";
    "fail-dns";
    "fail-reset";
    "fail-closed";
    "fail-truncated";
    "fail-abort";
    "fail-abort-body" expects hanging;
    "fail-abort-before";
    "fail-abort-xhr";
    "fail-xhr-timeout";
    "fail-frame-removed";
    "fail-image-removed";
    "fail-leaving" until "end";
    "fail-csp-img" with IMG;
    "fail-csp-connect" with CONNECT;
    "fail-csp-script" with SCRIPT;
    "fail-csp-style" with STYLE;
    "fail-cors";
    "fail-cors-preflight";
    "fail-integrity";
    "fail-corp";
    "fail-frame-options";
    "fail-frame-refused";
    "fail-unsafe-port";
    "fail-decoding";
    "statuses-client";
    "statuses-server";
    "statuses-success";
    "statuses-resources";
}
