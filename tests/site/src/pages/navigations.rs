//! Ways to leave, to stay, and to open another window or frame.

use super::group;

group! { "navigations":
    "nav-push-state";
    "nav-replace-state";
    "nav-fragment";
    "nav-history-traversal";
    "nav-reload";
    "nav-assign" until "end";
    "nav-replace" until "end";
    "nav-href" until "end";
    "nav-link" until "end";
    "nav-back";
    "nav-meta-refresh" until "end";
    "nav-open";
    "nav-open-named";
    "nav-open-closed";
    "nav-open-blank";
    "nav-target-blank";
    "nav-frame";
    "nav-frame-nested";
    "nav-frame-fragment";
    "nav-frame-removed";
    "nav-srcdoc";
    "nav-blob";
    "nav-data";
    "nav-javascript-url";
    "nav-204";
    "nav-download" expects downloading;
    "nav-form-get" until "end";
    "nav-document-open";
    "nav-not-found";
    "nav-navigation-api" until "end";
    "nav-superseded" until "end";
}
