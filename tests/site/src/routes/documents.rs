//! Pages and scripts: text files with placeholders, filled with the token and the addresses of this site.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Params, SharedState, reply, with_headers};
use crate::observe::{InlineScripts, Seen};
use crate::pages::{self, Page};
use crate::server::Scheme;
use crate::site::{CDN, Shared, THIRD, TRACKER};
use crate::template::{fill, valid_value};
use crate::tls;

/// The nonce of the pages with a content security policy; fixed, since nobody attacks them from outside.
const NONCE: &str = "c29uZGUtbm9uY2U";

pub(super) async fn index(State(shared): SharedState) -> Response {
    let rows: String = pages::pages()
        .map(|p| {
            let origin = shared.origin(if p.secure { Scheme::Https } else { Scheme::Http }, p.host);
            format!("<li><a href=\"{origin}{}\">{}</a></li>\n", p.path, p.name)
        })
        .collect();
    reply("text/html; charset=utf-8", format!("<!doctype html><title>pages</title><ul>\n{rows}</ul>"))
}

pub(super) async fn page(
    State(shared): SharedState,
    Extension(seen): Extension<Seen>,
    Path(name): Path<String>,
    Query(params): Params,
) -> Response {
    let Some(document) = pages::document(&name) else {
        return (StatusCode::NOT_FOUND, format!("the fixture site has no page {name:?}")).into_response();
    };
    let text = match filled(&shared, &seen, &params, page_text(&document)) {
        Ok(text) => text,
        Err(refusal) => return *refusal,
    };
    let headers: Vec<(&'static str, String)> = document
        .headers
        .iter()
        .map(|(name, value)| (*name, fill(value, |key| placeholder(&shared, &seen, &params, key))))
        .collect();
    let borrowed: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let inline = InlineScripts(inline_scripts(&text).map(str::to_owned).collect());
    let mut response = with_headers(reply("text/html; charset=utf-8", text), &borrowed);
    response.extensions_mut().insert(inline);
    response
}

/// The sources between the script tags of a page of ours, without those that are data or have their source elsewhere.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    let mut left = html;
    let elements = std::iter::from_fn(move || {
        let (tag, rest) = left.split_once("<script")?.1.split_once('>')?;
        let (source, rest) = rest.split_once("</script>")?;
        left = rest;
        Some((tag, source))
    });
    let is_code = |tag: &str| ["src=", "importmap", "text/plain"].iter().all(|mark| !tag.contains(mark));
    elements.filter_map(move |(tag, source)| (is_code(tag) && !source.is_empty()).then_some(source))
}

pub(super) async fn script(
    State(shared): SharedState,
    Extension(seen): Extension<Seen>,
    Path(name): Path<String>,
    Query(params): Params,
) -> Response {
    let Some(source) = pages::script(&name) else {
        return (StatusCode::NOT_FOUND, format!("the fixture site has no script {name:?}")).into_response();
    };
    match filled(&shared, &seen, &params, source.to_owned()) {
        Ok(text) => {
            with_headers(reply("text/javascript; charset=utf-8", text), &[("service-worker-allowed", "/")])
        }
        Err(refusal) => *refusal,
    }
}

type Values = std::collections::HashMap<String, String>;

fn filled(shared: &Arc<Shared>, seen: &Seen, params: &Values, text: String) -> Result<String, Box<Response>> {
    if let Some((name, value)) =
        params.iter().find(|(name, value)| name.as_str() == "v" && !valid_value(value))
    {
        let text = format!("parameter {name}={value:?} may hold letters, digits and -_. only, at most 128");
        return Err(Box::new((StatusCode::BAD_REQUEST, text).into_response()));
    }
    Ok(fill(&text, |name| placeholder(shared, seen, params, name)))
}

fn placeholder(shared: &Shared, seen: &Seen, params: &Values, name: &str) -> Option<String> {
    let origin = |scheme, host: &str| Some(shared.origin(scheme, host));
    let at = |host: &str| origin(seen.scheme, host);
    let number = |key: &str, default: &str| {
        let given = params.get(key).filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        Some(given.map_or_else(|| default.to_owned(), Clone::clone))
    };
    match name {
        "v" => Some(seen.token.clone().filter(|t| valid_value(t)).unwrap_or_default()),
        "self" => Some(format!("{}://{}", seen.scheme.name(), seen.authority)),
        "ws" => {
            Some(format!("{}://{}", if seen.scheme == Scheme::Https { "wss" } else { "ws" }, seen.authority))
        }
        "plain0" => origin(Scheme::Http, "site-0.localhost"),
        "secure0" => origin(Scheme::Https, "site-0.localhost"),
        "expired" => origin(Scheme::Https, tls::EXPIRED),
        "other-name" => origin(Scheme::Https, tls::OTHER_NAME),
        "self-signed" => origin(Scheme::Https, tls::SELF_SIGNED),
        "host" => Some(seen.authority.rsplit_once(':').map_or(seen.authority.clone(), |(h, _)| h.to_owned())),
        "port" => Some(shared.port(seen.scheme).to_string()),
        "site0" => at("site-0.localhost"),
        "site1" => at("site-1.localhost"),
        "third" => at(THIRD),
        "tracker" => at(TRACKER),
        "cdn" => at(CDN),
        "refused" => Some(format!("http://127.0.0.1:{}", shared.refused_port)),
        "nonce" => Some(NONCE.to_owned()),
        "n" => number("n", "100000"),
        "ms" => number("ms", "0"),
        "d" => number("d", "0"),
        "as" => Some(params.get("as").filter(|name| valid_value(name)).cloned().unwrap_or_default()),
        _ => None,
    }
}

fn page_text(page: &Page) -> String {
    match page.name {
        "two-hundred-requests" => two_hundred(page.html),
        _ => page.text(),
    }
}

/// 50 style sheets, 50 scripts and 50 images in the markup; the page itself fetches 50 more.
fn two_hundred(html: &str) -> String {
    let list = |line: fn(usize) -> String| (0..50).map(line).collect::<String>();
    let css = list(|i| format!("<link rel=stylesheet href=\"/r/style.css?i={i}&v={{{{v}}}}\">\n"));
    let js = list(|i| format!("<script src=\"/r/script.js?i={i}&v={{{{v}}}}\"></script>\n"));
    let img = list(|i| format!("<img alt=\"\" src=\"/r/pixel.png?i={i}&v={{{{v}}}}\">\n"));
    html.replace("<!--css-->", &css).replace("<!--js-->", &js).replace("<!--img-->", &img)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_in_the_markup_are_found_and_others_are_not() {
        let html = "<script src=/a.js></script><script nonce=x>one</script><p><script type=\"importmap\">{}</script>\n\
                    <script type=module>two\n</script><script></script>\
                    <script>three(\"<script>\")</script>";
        assert_eq!(inline_scripts(html).collect::<Vec<_>>(), ["one", "two\n", "three(\"<script>\")"]);
    }
}
