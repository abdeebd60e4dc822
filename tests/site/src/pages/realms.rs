//! Ways to a fresh global object (I3).

use super::group;

group! { "realms":
    "realm-blank";
    "realm-blank-fragment";
    "realm-content-document";
    "realm-frames-index";
    "realm-frames-name";
    "realm-inner-html";
    "realm-srcdoc";
    "realm-blob";
    "realm-data";
    "realm-javascript";
    "realm-pending";
    "realm-pending-index";
    "realm-lazy";
    "realm-204";
    "realm-sandbox";
    "realm-sandbox-same-origin";
    "realm-nested";
    "realm-detached";
    "realm-document-write";
    "realm-written-frame";
    "realm-object";
    "realm-open";
    "realm-open-url";
    "realm-open-noopener";
    "realm-cross-site";
    "realm-cross-site-nested";
    "realm-functions";
    "realm-many";
    "realm-canvas";
}
