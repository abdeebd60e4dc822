//! What is worth a click: a pure function of what is on the page.

use std::collections::HashSet;

use url::Url;

use super::policy::Element;
use super::words::{Phrases, tokens};

/// What is planned at most of one scan.
const PLANNED: usize = 5;

const INVITING: &[&str] = &[
    "get started",
    "try",
    "start",
    "explore",
    "features",
    "pricing",
    "demo",
    "learn more",
    "docs",
    "documentation",
    "product",
    "products",
    "tour",
    "how it works",
    "examples",
    "gallery",
    "overview",
    "discover",
    "see more",
    "funktionen",
    "preise",
    "mehr erfahren",
    "entdecken",
    "produkte",
    "loslegen",
    "funzionalita",
    "prezzi",
    "scopri",
    "prodotti",
    "inizia",
    "fonctionnalites",
    "tarifs",
    "decouvrir",
    "en savoir plus",
    "produits",
    "commencer",
    "funciones",
    "precios",
    "descubre",
    "mas informacion",
    "productos",
    "empezar",
];
const CLOSING: &[&str] = &[
    "accept",
    "accept all",
    "agree",
    "got it",
    "close",
    "dismiss",
    "no thanks",
    "reject",
    "decline",
    "skip",
];
const LEGAL: &[&str] = &[
    "privacy",
    "terms",
    "imprint",
    "impressum",
    "datenschutz",
    "legal",
    "cookie policy",
    "cookies",
    "licence",
    "license",
    "agb",
    "accessibility statement",
];
const SOCIAL: &[&str] =
    &["facebook", "twitter", "instagram", "linkedin", "youtube", "tiktok", "share", "tweet"];

/// A click that could be next.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned<'a> {
    pub element: &'a Selected<'a>,
    /// 0 to 100.
    pub priority: i32,
    pub reason: String,
}

/// An element that may be clicked.
#[derive(Debug, Clone)]
pub struct Selected<'a> {
    pub element: &'a Element,
    pub fingerprint: String,
}

impl PartialEq for Selected<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// The best of them, best first; among equals, in the order of the page. `visited`: URLs without fragments.
pub fn plan<'a>(all: &'a [Selected<'a>], visited: &HashSet<String>) -> Vec<Planned<'a>> {
    let mut planned: Vec<Planned<'a>> = all.iter().map(|element| score(element, visited)).collect();
    planned.sort_by_key(|planned| std::cmp::Reverse(planned.priority));
    planned.truncate(PLANNED);
    planned
}

fn score<'a>(selected: &'a Selected<'a>, visited: &HashSet<String>) -> Planned<'a> {
    let element = selected.element;
    let named: String = std::iter::once(&element.text)
        .chain(&element.names)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" | ");
    let has = |phrases: &[&str]| Phrases::of(phrases).in_text(&named).is_some();
    let leads_to = Url::parse(&element.href).ok().filter(|url| url.scheme().starts_with("http"));
    let seen = leads_to.clone().map(|mut url| {
        url.set_fragment(None);
        visited.contains(url.as_str())
    });
    let digits = !element.text.is_empty() && element.text.chars().all(|c| c.is_ascii_digit());
    let empty = tokens(&named).is_empty();
    let points: [(bool, i32, &str); 15] = [
        (has(INVITING), 30, "inviting words"),
        (has(CLOSING) && element.region == "dialog", 25, "ends a dialog"),
        (matches!(element.region.as_str(), "nav" | "header"), 15, "in the navigation"),
        (element.region == "main", 10, "in the main part"),
        (element.region == "dialog", 15, "in a dialog"),
        (element.region == "footer", -25, "in the footer"),
        (element.above, 10, "seen without scrolling"),
        (seen == Some(false), 10, "leads to a new page"),
        (seen == Some(true), -40, "leads where we were"),
        (element.opens, 12, "opens something in place"),
        (element.found == "cursor", -10, "only looks clickable"),
        (has(LEGAL), -30, "legal"),
        (has(SOCIAL), -20, "social"),
        (!element.language.is_empty() || digits, -20, "another language or page number"),
        (empty, -20, "has no name"),
    ];
    let met = points.into_iter().filter(|(met, ..)| *met);
    let (sum, reasons) =
        met.fold((50, vec![element.found.as_str()]), |(sum, mut reasons), (_, points, reason)| {
            reasons.push(reason);
            (sum + points, reasons)
        });
    let size = i32::try_from((element.area / 2000).min(10)).unwrap_or(0);
    Planned { element: selected, priority: (sum + size).clamp(0, 100), reason: reasons.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str, region: &str, href: &str) -> Element {
        Element {
            text: text.to_owned(),
            region: region.to_owned(),
            href: href.to_owned(),
            found: "native".to_owned(),
            above: region != "footer",
            area: 2000,
            ..Element::default()
        }
    }

    /// D33, D40, D42: the same page gives the same plan, of at most five.
    #[test]
    fn the_plan_is_the_golden_one() {
        let page = [
            element("Home", "nav", "https://a.test/"),
            element("Imprint", "footer", "https://a.test/imprint"),
            element("Features", "nav", "https://a.test/features"),
            element("Get started", "main", "https://a.test/start"),
            Element { opens: true, ..element("More", "main", "") },
            element("2", "main", "https://a.test/?page=2"),
            element("", "main", "https://a.test/new"),
        ];
        let all: Vec<Selected<'_>> =
            page.iter().map(|element| Selected { element, fingerprint: element.text.clone() }).collect();
        let visited = HashSet::from(["https://a.test/".to_owned()]);
        let plan: Vec<(String, i32, String)> = plan(&all, &visited)
            .into_iter()
            .map(|p| (p.element.element.text.clone(), p.priority, p.reason))
            .collect();
        let golden = [
            (
                "Features",
                100,
                "native, inviting words, in the navigation, seen without scrolling, leads to a new page",
            ),
            (
                "Get started",
                100,
                "native, inviting words, in the main part, seen without scrolling, leads to a new page",
            ),
            ("More", 83, "native, in the main part, seen without scrolling, opens something in place"),
            (
                "2",
                61,
                "native, in the main part, seen without scrolling, leads to a new page, another language or page number",
            ),
            ("", 61, "native, in the main part, seen without scrolling, leads to a new page, has no name"),
        ];
        assert_eq!(plan, golden.map(|(text, priority, why)| (text.to_owned(), priority, why.to_owned())));
    }
}
