//! Kinds of resources in webRequest's words.

use super::events::{Headers, Initiator};

/// `kind` is DevTools' word; `top` says whether a document is that of the top frame.
pub(super) fn kind(
    kind: &str,
    top: bool,
    context: &str,
    initiator: &Initiator,
    headers: &Headers,
) -> &'static str {
    match kind {
        "Document" if top => "main_frame",
        "Document" => "sub_frame",
        "Stylesheet" => "stylesheet",
        "Image" => "image",
        "Media" | "TextTrack" => "media",
        "Font" => "font",
        "Script" => "script",
        "XHR" | "Fetch" | "EventSource" | "Preflight" => "xmlhttprequest",
        "WebSocket" => "websocket",
        "Manifest" => "web_manifest",
        // `<a ping>` and sendBeacon are one kind to DevTools.
        "Ping" if headers.get("ping-to").is_some() => "ping",
        "Ping" => "beacon",
        "CSPViolationReport" => "csp_report",
        _ => other(context, initiator, headers),
    }
}

fn other(context: &str, initiator: &Initiator, headers: &Headers) -> &'static str {
    if initiator.kind == "preflight" {
        return "xmlhttprequest";
    }
    let destination = headers.get("sec-fetch-dest").unwrap_or_default();
    match destination {
        "image" => return "image",
        "object" | "embed" => return "object",
        "script" | "worker" | "sharedworker" | "serviceworker" => return "script",
        "manifest" => return "web_manifest",
        "report" => return "csp_report",
        _ => {}
    }
    // On origins that get no Sec-Fetch headers: favicons ask for images, and importScripts comes from script
    // in a worker.
    if headers.get("accept").is_some_and(|a| a.starts_with("image/")) {
        return "image";
    }
    let in_worker = matches!(context, "worker" | "shared_worker" | "service_worker");
    if in_worker && initiator.kind == "script" { "script" } else { "other" }
}

pub(super) fn is_xhr(kind: &str) -> bool {
    matches!(kind, "XHR" | "Fetch")
}

/// Kinds that may stay open for ever without keeping the network busy; of pings the page need not hear the answer.
pub(super) fn never_ends(kind: &str) -> bool {
    matches!(kind, "EventSource" | "Media" | "WebSocket" | "Ping")
}
