//! The site asked by plain clients: what it answers and what it writes down.

use std::time::Duration;

use sonde_site::expect::{Table, from_site, sqlite};
use sonde_site::{DocOptions, DocSite, LogOptions, Site, SiteOptions, pages, sha256_hex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

/// Sends one raw request and reads until the server closes.
async fn raw(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the site listens");
    stream.write_all(request).await.expect("the site reads");
    let mut out = Vec::new();
    // A response cut on purpose may end in a reset after its bytes.
    let _ =
        tokio::time::timeout(SOON, stream.read_to_end(&mut out)).await.expect("the server closes in time");
    out
}

async fn get(port: u16, host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8_lossy(&raw(port, request.as_bytes()).await).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text)
}

#[tokio::test]
async fn every_page_answers_with_its_token_in_every_url() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    for page in pages() {
        let token = format!("t-{}", page.name);
        let (status, text) = get(site.port(), page.host, &format!("{}?v={token}", page.path)).await;
        assert_eq!(status, 200, "{}", page.name);
        assert!(text.contains(&token), "{} carries its token", page.name);
        assert!(!text.contains("{{"), "{} has an unfilled placeholder", page.name);
        assert_eq!(site.hits_for(&token).len(), 1);
    }
    for script in ["probe", "calls", "sabotage", "worker", "shared", "sw", "count-worker", "count-service"] {
        let (status, text) = get(site.port(), "cdn.localhost", &format!("/s/{script}.js?v=t")).await;
        assert!(status == 200 && !text.contains("{{"), "{script}");
    }
    site.stop().await.unwrap();
}

#[tokio::test]
async fn the_log_keeps_order_case_and_the_whole_body() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let port = site.port();
    let body: Vec<u8> = (0..=255_u8).cycle().take((1 << 20) + 999).collect();
    let mut request = format!(
        "POST /r/echo?v=t1&x=%20 HTTP/1.1\r\nHost: third.localhost:{port}\r\nX-Two: b\r\nx-ONE: a\r\nX-Two: c\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let answer = String::from_utf8_lossy(&raw(port, &request).await).into_owned();
    assert!(answer.contains(&sha256_hex(&body)), "{answer}");
    let hits = site.hits_for("t1");
    let [hit] = hits.as_slice() else { panic!("one hit: {hits:?}") };
    assert!(hit.headers_exact);
    let names: Vec<_> = hit.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "X-Two", "x-ONE", "X-Two", "Content-Length", "Connection"]);
    assert_eq!((hit.host.as_str(), hit.path.as_str()), ("third.localhost", "/r/echo?v=t1&x=%20"));
    assert_eq!((hit.request_body.len, hit.request_body.bytes.len()), (body.len() as u64, 1 << 20));
    assert_eq!(hit.request_body.sha256, sha256_hex(&body));
    assert_eq!(hit.status, Some(200));
    assert!(hit.response_body.as_ref().unwrap().complete);
    site.stop().await.unwrap();
}

/// Two requests over one connection: the second head is logged as exactly as the first.
#[tokio::test]
async fn a_kept_connection_logs_each_head() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let port = site.port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for n in 0..3 {
        let request =
            format!("GET /r/empty?v=k&n={n} HTTP/1.1\r\nhOsT: site-0.localhost:{port}\r\nX-N: {n}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
        }
    }
    let hits = site.hits_for("k");
    assert_eq!(hits.len(), 3);
    for (n, hit) in hits.iter().enumerate() {
        assert!(hit.headers_exact);
        assert_eq!(hit.headers[0].0, "hOsT");
        assert_eq!(hit.header("x-n"), Some(n.to_string().as_str()));
        assert_eq!(hit.ordinal, n as u64);
    }
    site.stop().await.unwrap();
}

#[tokio::test]
async fn bodies_are_hashed_decoded_and_whole() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    for name in ["gzip", "chunked", "big", "binary", "prefix/a", "prefix/b", "empty", "truncated"] {
        get(site.port(), "site-1.localhost", &format!("/r/{name}?v={}", name.replace('/', "-"))).await;
    }
    let ended = |site: &Site| site.log().iter().all(|hit| hit.path.contains("truncated") || complete(hit));
    site.wait_for("streamed bodies to end", SOON, ended).await.unwrap();
    let body = |token: &str| site.hits_for(token)[0].response_body.clone().unwrap();
    assert_eq!(body("gzip").len, 86_000);
    assert_eq!(body("chunked").len, 100 << 10);
    assert_eq!(body("big").len, 2 << 20);
    assert_eq!(body("prefix-a").len, body("prefix-b").len);
    assert_ne!(body("prefix-a").sha256, body("prefix-b").sha256);
    assert_eq!(body("empty").sha256, sha256_hex(b""));
    site.wait_for("the cut body", SOON, |site| {
        site.hits_for("truncated")[0].response_body.as_ref().unwrap().len == 100
    })
    .await
    .unwrap();
    assert!(!body("truncated").complete);
    site.stop().await.unwrap();
}

fn complete(hit: &sonde_site::Hit) -> bool {
    hit.response_body.as_ref().is_some_and(|body| body.complete)
}

#[tokio::test]
async fn redirects_and_cookies_are_logged_as_answered() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let (status, _) =
        get(site.port(), "site-0.localhost", "/r/redirect?v=t&status=307&to=/r/text%3Fa=1").await;
    assert_eq!(status, 307);
    get(site.port(), "site-0.localhost", "/r/cookies/first?v=t").await;
    let hits = site.hits_for("t");
    assert_eq!(hits[0].location.as_deref(), Some(site.url("site-0.localhost", "/r/text?a=1&v=t").as_str()));
    assert_eq!(hits[1].set_cookies.len(), 8);
    let expected = from_site("t", &site).required;
    assert_eq!((expected.http_redirects.len(), expected.http_responses.len()), (1, 1));
    assert_eq!(expected.javascript_cookies.len(), 8);
    site.stop().await.unwrap();
}

#[tokio::test]
async fn truth_is_summed_and_a_bad_report_is_refused() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let port = site.port();
    let post = async |body: &str| {
        let request = format!(
            "POST /truth?v=t HTTP/1.1\r\nHost: site-0.localhost:{port}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        String::from_utf8_lossy(&raw(port, request.as_bytes()).await).into_owned()
    };
    for _ in 0..2 {
        let answer = post(r#"{"calls":{"get window.name":3},"done":["d"]}"#).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    assert!(post(r#"{"call":{}}"#).await.contains("unknown field"));
    assert_eq!(site.truth("t").calls["get window.name"], 6);
    site.wait_done("t", "d", SOON).await.unwrap();
    let late = site.wait_done("t", "never", Duration::from_millis(20)).await.unwrap_err();
    assert!(late.to_string().contains("document never of visit t"), "{late}");
    site.stop().await.unwrap();
}

#[tokio::test]
async fn the_log_is_bounded_and_counts_what_it_dropped() {
    let options =
        SiteOptions { log: LogOptions { capacity: 2, ..LogOptions::default() }, ..SiteOptions::default() };
    let site = Site::start(options).await.unwrap();
    for _ in 0..5 {
        get(site.port(), "127.0.0.1", "/r/empty?v=t").await;
    }
    assert_eq!((site.log().len(), site.log_overflow()), (2, 3));
    assert_eq!(get(site.port(), "elsewhere.localhost", "/").await.0, 421);
    site.stop().await.unwrap();
}

#[tokio::test]
async fn stop_ends_hanging_requests_and_the_refused_port_refuses() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", site.refused_port())).await.is_err());
    let port = site.port();
    let hanging = tokio::spawn(async move { get(port, "site-0.localhost", "/r/hang?v=t").await.0 });
    site.wait_for("the hanging hit", SOON, |site| !site.hits_for("t").is_empty()).await.unwrap();
    let status = site.hits_for("t")[0].status;
    assert_eq!(status, None);
    site.stop().await.unwrap();
    assert!(site.is_stopped());
    let answered = hanging.await.unwrap();
    assert!(answered == 0 || answered == 503, "{answered}");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn the_socket_echoes() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/r/ws?v=t", site.port());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    use futures_util::{SinkExt, StreamExt};
    for text in ["one", "zwei"] {
        socket.send(text.into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), text);
    }
    site.stop().await.unwrap();
    assert_eq!(site.hits_for("t")[0].status, Some(101));
}

#[tokio::test]
async fn a_directory_is_served_under_many_hosts_with_an_access_log() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("doc");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("index.html"), "<p>index").unwrap();
    std::fs::write(root.join("sub/a b.html"), "<p>a b").unwrap();
    std::fs::write(home.path().join("secret.html"), "secret").unwrap();
    let file = home.path().join("access.jsonl");
    let options = DocOptions { hosts: 2, access_log: Some(file.clone()), ..DocOptions::new(&root) };
    let site = DocSite::start(options).await.unwrap();
    let port = site.port();
    assert_eq!(
        site.urls(),
        [
            format!("http://doc-0.localhost:{port}/index.html"),
            format!("http://doc-1.localhost:{port}/sub/a%20b.html")
        ]
    );
    assert!(get(port, "doc-1.localhost", "/sub/a%20b.html").await.1.ends_with("<p>a b"));
    assert_eq!(get(port, "doc-0.localhost", "/").await.0, 200);
    assert_eq!(get(port, "doc-0.localhost", "/../secret.html").await.0, 404);
    assert_eq!(get(port, "doc-0.localhost", "/%2e%2e/secret.html").await.0, 404);
    let lines = std::fs::read_to_string(&file).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((first["host"].as_str(), first["status"].as_u64()), (Some("doc-1.localhost"), Some(200)));
    assert_eq!(lines.lines().count(), 4);
    site.stop().await.unwrap();
}

/// Rows in OpenWPM's tables and columns are read and scored by token.
#[tokio::test]
async fn rows_are_read_from_sqlite_by_the_token_of_the_visit() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    get(site.port(), "site-0.localhost", "/r/redirect?v=t&to=/r/text").await;
    get(site.port(), "site-0.localhost", "/r/text?v=t").await;
    let db = rusqlite::Connection::open_in_memory().unwrap();
    let at = |path: &str| site.url("site-0.localhost", path);
    let (old, new) = (at("/r/redirect?v=t&to=/r/text"), at("/r/text?v=t"));
    db.execute_batch(&format!(
        "CREATE TABLE site_visits(visit_id INTEGER, site_url TEXT);
         CREATE TABLE http_requests(visit_id INTEGER, request_id INTEGER, url TEXT, method TEXT, hop_index INTEGER DEFAULT 0,
           headers TEXT DEFAULT '[]', headers_final INTEGER DEFAULT 1, post_body TEXT, post_body_raw TEXT, post_body_bytes INTEGER);
         CREATE TABLE http_failures(visit_id INTEGER, request_id INTEGER, url TEXT, error TEXT, canceled INTEGER, after_response INTEGER);
         CREATE TABLE http_responses(visit_id INTEGER, url TEXT, response_status INTEGER, from_service_worker INTEGER, content_hash TEXT,
           body_bytes INTEGER, request_id INTEGER, hop_index INTEGER, is_cached INTEGER DEFAULT 0, headers TEXT DEFAULT '[]',
           headers_final INTEGER DEFAULT 1);
         CREATE TABLE http_redirects(visit_id INTEGER, old_request_url TEXT, new_request_url TEXT, response_status INTEGER,
           headers TEXT DEFAULT '[]', headers_final INTEGER DEFAULT 1);
         CREATE TABLE javascript(visit_id INTEGER, symbol TEXT, operation TEXT, func_name TEXT, script_url TEXT, script_line TEXT,
           script_col TEXT, script_loc_eval TEXT, call_stack TEXT);
         CREATE TABLE javascript_cookies(visit_id INTEGER, name TEXT, host TEXT, record_type TEXT, change_cause TEXT, source TEXT);
         INSERT INTO site_visits VALUES (9007199254740991, '{old}'), (2, 'http://site-0.localhost/?v=t2');
         INSERT INTO http_requests (visit_id, request_id, url, method) VALUES (9007199254740991, 1, '{old}', 'GET'), (9007199254740991, 1, '{new}', 'GET'),
           (9007199254740991, 2, '{new}', 'GET'), (2, 1, '{new}', 'GET');
         INSERT INTO http_failures VALUES (9007199254740991, 2, '{new}', 'aborted', 1, 0);
         INSERT INTO http_responses (visit_id, url, response_status, from_service_worker) VALUES (9007199254740991, '{new}', 200, 0);
         INSERT INTO http_redirects (visit_id, old_request_url, new_request_url, response_status) VALUES (9007199254740991, '{old}', '{new}', 302), (9007199254740991, 'a', 'b', 0);
         INSERT INTO javascript (visit_id, symbol, operation) VALUES (9007199254740991, 'window.name', 'get'), (9007199254740991, 'window.name', 'get');
         INSERT INTO javascript_cookies VALUES (9007199254740991, 'c', '.h', 'deleted', 'overwrite', 'http'),
           (9007199254740991, 'c', '.h', 'added-or-changed', 'explicit', 'http'),
           (9007199254740991, 'c', '.h', 'added-or-changed', 'explicit', 'jar');"
    ))
    .unwrap();
    let read = sqlite::read_from(&db, "t").unwrap();
    assert_eq!(read.visit_ids, [9_007_199_254_740_991]);
    assert_eq!(
        read.missing_tables,
        ["navigations", "websocket_frames", "dns_responses", "scripts", "callstacks"]
    );
    let expected = from_site("t", &site);
    for table in [Table::HttpRequests, Table::HttpResponses, Table::HttpRedirects] {
        let score = expected.score(table, &read.rows);
        assert!(score.is_exact() && score.expected > 0, "{table:?} {score:?}");
    }
    assert_eq!(read.rows.javascript[0].count, 2);
    assert_eq!(read.rows.javascript_cookies.len(), 1);
    assert!(sqlite::read_from(&db, "none").is_err());
    site.stop().await.unwrap();
}
