//! Redirects: their statuses, what is redirected, and where to.

use super::group;

group! { "redirects":
    "redirect-chain";
    "redirect-methods";
    "redirect-loop";
    "redirect-cross-site";
    "redirect-resources";
    "redirect-frame";
    "redirect-top" until "end";
    "redirect-top-cross-site" until "end";
    "redirect-manual";
    "redirect-fragment";
    "redirect-preflight";
    "redirect-cookies";
    "redirect-to-data";
    "redirect-without-location";
    "redirect-meta" until "end";
    "redirect-refresh-header" until "end";
    "redirect-beacon";
}
