//! What may be clicked: hard rules, asked before an element is ranked and again of the node that is about to be clicked.

use serde::Deserialize;
use url::Url;

use super::words::Phrases;
use crate::engine::links::site;

/// Something on the page that a user can click, as `scan.js` tells of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Element {
    /// `tag:text:role:href`, by which it is known again.
    pub key: String,
    pub selector: String,
    pub tag: String,
    pub text: String,
    /// Other names that are shown or read out.
    pub names: Vec<String>,
    /// Identifiers.
    pub ids: Vec<String>,
    /// Absolute; "" where it leads nowhere.
    pub href: String,
    pub new_tab: bool,
    pub download: bool,
    /// What it would submit.
    pub form: Option<Form>,
    /// nav, header, main, footer, aside, dialog or "".
    pub region: String,
    /// It changes the page in place: tab, menu, accordion.
    pub opens: bool,
    /// It is seen without scrolling.
    pub above: bool,
    /// In square CSS pixels.
    pub area: u64,
    /// Of what it leads to, where it says so.
    pub language: String,
    /// Why it counts as clickable: native, role, handler or cursor.
    pub found: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Form {
    /// Absolute URL.
    pub action: String,
    /// In lower case.
    pub method: String,
    /// It has fields for a password, a card or a file.
    pub sensitive: bool,
}

/// Segments of paths of pages where users log in or register.
const AUTH: &[&str] = &[
    "login",
    "log-in",
    "log_in",
    "signin",
    "sign-in",
    "sign_in",
    "register",
    "registration",
    "signup",
    "sign-up",
    "sign_up",
    "auth",
    "oauth",
    "oauth2",
    "sso",
    "wp-login",
];

/// The rules of one exploration.
#[derive(Debug)]
pub struct Policy {
    site: Option<String>,
    blocked: Phrases,
}

impl Policy {
    /// For a start at a URL.
    pub fn new(start: &str, more: &[String]) -> Self {
        let site = Url::parse(start).ok().as_ref().and_then(site);
        Self { site, blocked: Phrases::blocked(more) }
    }

    /// The rule that forbids a click, with what it met.
    pub fn forbids(&self, element: &Element) -> Option<(&'static str, String)> {
        if let Some(word) = self.blocked_word(element) {
            return Some(("blocked_word", word));
        }
        if element.new_tab {
            return Some(("new_tab", element.href.clone()));
        }
        if element.download {
            return Some(("download", element.href.clone()));
        }
        if let Some(rule) = self.leads_away(&element.href) {
            return Some((rule, element.href.clone()));
        }
        let form = element.form.as_ref()?;
        if form.method == "post" {
            return Some(("form_post", form.action.clone()));
        }
        if form.sensitive {
            return Some(("form_sensitive", form.action.clone()));
        }
        self.leads_away(&form.action).map(|rule| (rule, form.action.clone()))
    }

    fn blocked_word(&self, element: &Element) -> Option<String> {
        let paths = [&element.href, element.form.as_ref().map_or(&element.href, |form| &form.action)];
        let paths = paths.into_iter().filter_map(|url| Url::parse(url).ok()).map(|url| decoded(url.path()));
        let texts = std::iter::once(&element.text).chain(&element.names).chain(&element.ids).cloned();
        texts.chain(paths).find_map(|text| self.blocked.in_text(&text))
    }

    /// The rule that a URL breaks.
    fn leads_away(&self, url: &str) -> Option<&'static str> {
        // A script of the page's own, or nothing.
        if url.is_empty() || url.starts_with("javascript:") {
            return None;
        }
        match Url::parse(url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("scheme"),
            Ok(url) if site(&url) != self.site => Some("domain"),
            Ok(url) if is_auth(&url) => Some("auth"),
            Ok(_) => None,
            Err(_) => Some("scheme"),
        }
    }

    /// Why an exploration ends at a URL.
    pub fn ends_at(&self, url: &str) -> Option<&'static str> {
        match Url::parse(url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("LOAD_FAILED"),
            Ok(url) if site(&url) != self.site => Some("DOMAIN_CHANGED"),
            Ok(url) if is_auth(&url) => Some("AUTH_PAGE"),
            Ok(_) => None,
            Err(_) => Some("LOAD_FAILED"),
        }
    }
}

/// Whether a segment of the path, or of a fragment that is a path, says so.
fn is_auth(url: &Url) -> bool {
    let route =
        url.fragment().and_then(|f| f.strip_prefix('!').unwrap_or(f).strip_prefix('/')).unwrap_or_default();
    let route = route.split('?').next().unwrap_or_default();
    let segments = url.path().split('/').chain(route.split('/'));
    segments.map(decoded).any(|segment| {
        let stem = segment.split('.').next().unwrap_or_default().to_lowercase();
        AUTH.contains(&stem.as_str())
    })
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new("https://www.shop.co.uk/start", &[])
    }

    fn rule(element: Element) -> Option<&'static str> {
        policy().forbids(&element).map(|(rule, _)| rule)
    }

    fn link(href: &str) -> Element {
        Element { href: href.to_owned(), ..Element::default() }
    }

    /// D35: wherever the word stands.
    #[test]
    fn blocked_words_are_found_everywhere() {
        let word = || "Delete".to_owned();
        let form = |action: &str| {
            Some(Form { action: action.to_owned(), method: "get".to_owned(), sensitive: false })
        };
        for element in [
            Element { text: word(), ..Element::default() },
            Element { names: vec!["x".to_owned(), word()], ..Element::default() },
            Element { ids: vec!["btn-delete".to_owned()], ..Element::default() },
            link("https://shop.co.uk/items/7/delete"),
            link("https://shop.co.uk/d%65lete"),
            Element { form: form("https://shop.co.uk/checkout"), ..Element::default() },
        ] {
            assert_eq!(rule(element.clone()), Some("blocked_word"), "{element:?}");
        }
        assert_eq!(rule(link("https://shop.co.uk/display/payload")), None);
    }

    /// D48, D49, D77
    #[test]
    fn what_leads_away_is_not_clicked() {
        for (href, wanted) in [
            ("https://blog.shop.co.uk/", None),
            ("http://shop.co.uk/authors", None),
            ("https://shop.co.uk/blog/login-tips", None),
            ("javascript:void(0)", None),
            ("", None),
            ("https://other.co.uk/", Some("domain")),
            ("mailto:a@shop.co.uk", Some("scheme")),
            ("https://shop.co.uk/Login?next=/", Some("auth")),
            ("https://shop.co.uk/user/sign-in.php", Some("auth")),
            ("https://shop.co.uk/#/login", Some("auth")),
            ("https://shop.co.uk/#!/register?x", Some("auth")),
            ("https://shop.co.uk/#login", None),
        ] {
            assert_eq!(rule(link(href)), wanted, "{href}");
        }
        let form = |method: &str, sensitive| Element {
            form: Some(Form { method: method.to_owned(), sensitive, ..Form::default() }),
            ..Element::default()
        };
        assert_eq!(rule(form("post", false)), Some("form_post"));
        assert_eq!(rule(form("get", true)), Some("form_sensitive"));
        assert_eq!(rule(form("get", false)), None);
        assert_eq!(rule(Element { new_tab: true, ..link("https://shop.co.uk/") }), Some("new_tab"));
        assert_eq!(policy().ends_at("https://evil.test/"), Some("DOMAIN_CHANGED"));
        assert_eq!(policy().ends_at("https://shop.co.uk/auth/x"), Some("AUTH_PAGE"));
        assert_eq!(policy().ends_at("chrome-error://chromewebdata/"), Some("LOAD_FAILED"));
        assert_eq!(policy().ends_at("https://shop.co.uk/x"), None);
    }
}
