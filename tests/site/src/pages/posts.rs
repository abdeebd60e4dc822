//! Encodings of request bodies.

use super::group;

group! { "posts":
    "post-text";
    "post-json";
    "post-query";
    "post-form-data";
    "post-file";
    "post-blob";
    "post-bytes";
    "post-empty";
    "post-large";
    "post-xhr";
    "form-get";
    "form-urlencoded";
    "form-multipart";
    "form-plain";
    "form-submitter";
    "form-top" until "end";
}
