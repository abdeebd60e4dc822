//! Kinds of requests: elements, style sheets, scripts, APIs.

use super::group;

group! { "requests":
    "img";
    "img-srcset";
    "img-script";
    "svg-references";
    "script-classic";
    "script-module";
    "script-import";
    "script-import-map";
    "script-inserted";
    "css-link";
    "css-import";
    "css-images";
    "css-font";
    "fetch-methods";
    "fetch-modes";
    "fetch-credentials";
    "fetch-keepalive";
    "fetch-headers";
    "fetch-preflight";
    "fetch-stream";
    "xhr-async";
    "xhr-sync";
    "beacon";
    "beacon-unload" until "end";
    "ping";
    "preload";
    "preload-header";
    "prefetch";
    "module-preload";
    "iframe";
    "iframe-lazy";
    "iframe-resources";
    "object";
    "embed";
    "audio";
    "video";
    "input-image";
    "body-background";
    "third-parties";
    "manifest";
    "document-write";
    "base-href";
    "odd-urls";
    "long-url";
    "data-and-blob";
}
