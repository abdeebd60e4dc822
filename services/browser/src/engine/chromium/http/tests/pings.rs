//! Requests whose page does not hear of their answer.

use super::*;

const URL: &str = "https://a.test/ping";

/// M10: a ping whose page went on was answered, as the wire tells.
#[test]
fn answers_that_no_page_heard_are_responses() {
    let mut bench = Bench::with(SaveContent::All);
    bench.events([sent("1", URL, "Ping"), sent_extra("1", 1.0), received_extra("1", 204, "c=1")]);
    assert_eq!(bench.tracker.open_requests(), 0, "nobody waits for it");
    bench.finish();
    let [response] = bench.responses()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!((response.response_status, response.headers_final), (Some(204), true));
    assert!(bench.failures().is_empty() && bench.truncations().is_empty(), "{:?}", bench.actions);
    assert_eq!((bench.requests().len(), bench.cookies().len()), (1, 1));
}

/// M15
#[test]
fn addresses_are_those_of_the_network_only() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([sent("1", URL, "Script"), sent_extra("1", 1.0), received_extra("1", 200, "c=1")]);
    bench.events([received("1", URL, "Script", 200, true), finished("1")]);
    bench.event(sent("2", URL, "Script"));
    let mut disk = received("2", URL, "Script", 200, false);
    disk.1["response"]["fromDiskCache"] = true.into();
    bench.events([disk, finished("2")]);
    bench.events([sent("3", URL, "Script"), failed("3", "net::ERR_NAME_NOT_RESOLVED", false)]);
    bench.finish();
    let dns: Vec<_> = bench
        .dns()
        .iter()
        .map(|d| (d.hostname.clone().unwrap(), d.used_address.clone(), d.error.clone()))
        .collect();
    let error = Some("net::ERR_NAME_NOT_RESOLVED".to_owned());
    assert_eq!(dns, [("a.test".into(), Some("127.0.0.1".into()), None), ("a.test".into(), None, error)]);
    let mut proxied = Bench::new(HttpConfig { proxied: true, ..HttpConfig::default() });
    proxied.events([sent("1", URL, "Script"), sent_extra("1", 1.0), received_extra("1", 200, "c=1")]);
    proxied.events([received("1", URL, "Script", 200, true), finished("1")]);
    assert!(proxied.dns().is_empty());
}
