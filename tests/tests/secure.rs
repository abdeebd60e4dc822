//! Pages over TLS (M10), and the strict transport security that a visit is told of (I8, M31), on both browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use rusqlite::Connection;
use serde_json::Value;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, GetCommand, Outcome, command::Step};
use sonde_site::{HSTS, Site, SiteOptions, authority_pem, page};
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::world::World;

/// A browser-service whose browsers trust the site.
async fn trusting(world: &World) -> Browsers {
    let path = world.path().join("authority.pem");
    std::fs::write(&path, authority_pem().unwrap()).unwrap();
    let paths = format!("[{:?}]", path.to_str().unwrap());
    Browsers::start_with(world, 1, &[("TRUSTED_CERTIFICATES", &paths)]).await
}

/// Names under `.test` are this machine.
fn spec(kind: BrowserKind) -> BrowserSpec {
    let flag = match kind {
        BrowserKind::Firefox => format!("--set-pref=network.dns.localDomains=\"{HSTS}\""),
        _ => "--host-resolver-rules=MAP *.test 127.0.0.1".to_owned(),
    };
    BrowserSpec { kind: kind.into(), extra_flags: vec![flag], ..BrowserSpec::default() }
}

fn get(url: &str) -> Step {
    Step::Get(GetCommand { url: url.to_owned(), ..GetCommand::default() })
}

async fn outcome(slot: &mut Slot, url: &str, commands: Vec<Step>) -> (Outcome, String) {
    let result = slot.visit(url, all_instruments(), commands).await;
    (result.outcome(), result.failure.map(|failure| failure.net_error).unwrap_or_default())
}

async fn tells_of_tls(kind: BrowserKind) {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let browsers = trusting(&world).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    let url = page("tls-resources").unwrap().url(&site, "tls", "");
    assert!(url.starts_with("https://"));
    assert_eq!(outcome(&mut slot, &url, vec![get("")]).await, (Outcome::Ok, String::new()));
    let trusted: Value = serde_json::from_str(&slot.provenance).unwrap();
    assert_eq!(
        trusted["trusted_certificates"].as_array().unwrap().len(),
        1,
        "provenance says what is trusted"
    );

    let db = Connection::open(world.data().join("crawl.sqlite")).unwrap();
    let tls: String =
        db.query_row("SELECT tls FROM http_responses WHERE url = ?", [&url], |row| row.get(0)).unwrap();
    let tls: Value = serde_json::from_str(&tls).unwrap();
    assert!(tls["protocol"].as_str().unwrap().contains("1.3"), "{tls}");
    assert!(tls["cipher"].as_str().unwrap().contains("AES"), "{tls}");
    assert!(tls["issuer"].as_str().unwrap().contains("Sonde fixture authority"), "{tls}");
}

/// M10
#[tokio::test]
async fn chromium_tells_of_tls() {
    tells_of_tls(BrowserKind::Chromium).await;
}

/// M10
#[tokio::test]
async fn firefox_tells_of_tls() {
    tells_of_tls(BrowserKind::Firefox).await;
}

async fn trusts_nobody_else(kind: BrowserKind) {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let browsers = Browsers::start_with(&world, 1, &[]).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    let url = page("tls-resources").unwrap().url(&site, "tls", "");
    let (outcome, error) = outcome(&mut slot, &url, vec![get("")]).await;
    assert_eq!(outcome, Outcome::Neterror);
    assert!(["net::ERR_CERT_AUTHORITY_INVALID", "SEC_ERROR_UNKNOWN_ISSUER"].contains(&&*error), "{error}");
}

/// M10, S7
#[tokio::test]
async fn an_authority_that_was_not_named_is_not_trusted() {
    trusts_nobody_else(BrowserKind::Chromium).await;
    trusts_nobody_else(BrowserKind::Firefox).await;
}

/// A visit in which a host demands TLS cannot reach it without; the next visit can, since it knows of no demand.
async fn forgets_demands_for_tls(kind: BrowserKind) {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let browsers = trusting(&world).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = spec(kind);
    let demand =
        "/r/make?type=text/html&text=demands&header=Strict-Transport-Security:%20max-age=31536000&v=hsts";
    let (secure, plain) = (site.secure_url(HSTS, demand), site.url(HSTS, "/r/make?text=plain&v=hsts"));

    let both = vec![get(&secure), get(&plain)];
    let (demanded, error) = outcome(&mut slot, &secure, both).await;
    // The site speaks no TLS at the port of the plain URL.
    assert_eq!(demanded, Outcome::Neterror, "the host's demand holds within the visit");
    assert!(error.contains("SSL"), "{error}");
    let hits = |path: &str| site.hits_for("hsts").iter().filter(|hit| hit.path.contains(path)).count();
    assert_eq!((hits("text=demands"), hits("text=plain")), (1, 0));

    assert_eq!(outcome(&mut slot, &plain, vec![get("")]).await, (Outcome::Ok, String::new()));
    assert_eq!(hits("text=plain"), 1);
}

/// M31, I8: HSTS
#[tokio::test]
async fn chromium_forgets_demands_for_tls_between_visits() {
    forgets_demands_for_tls(BrowserKind::Chromium).await;
}

/// M31, I8: HSTS
#[tokio::test]
async fn firefox_forgets_demands_for_tls_between_visits() {
    forgets_demands_for_tls(BrowserKind::Firefox).await;
}
