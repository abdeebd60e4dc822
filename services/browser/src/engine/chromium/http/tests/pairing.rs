//! ExtraInfo events in every order that the protocol allows, and doubled sessions.

use proptest::prelude::*;

use super::*;

/// The rows with their times, in an order of their own.
fn rows(bench: &Bench) -> Vec<String> {
    let mut rows: Vec<_> = bench.actions.iter().map(|a| format!("{a:?}")).collect();
    rows.sort();
    rows
}

/// Merges the lists by the choices, keeping each one's order.
fn merge<T: Clone>(lists: &[Vec<T>], choices: &[usize]) -> Vec<T> {
    let mut places = vec![0; lists.len()];
    let mut merged = Vec::new();
    let mut choices = choices.iter().cycle();
    while merged.len() < lists.iter().map(Vec::len).sum() {
        let open: Vec<_> = (0..lists.len()).filter(|l| places[*l] < lists[*l].len()).collect();
        let list = open[choices.next().unwrap() % open.len()];
        merged.push(lists[list][places[list]].clone());
        places[list] += 1;
    }
    merged
}

fn url(request: usize, hop: usize) -> String {
    format!("https://r{request}.test/{hop}")
}

/// The three streams of one request: its own events, and its ExtraInfo of either direction. `extras` says
/// which hops have ExtraInfo.
fn streams(request: usize, extras: &[bool], fails: bool) -> [Vec<(&'static str, Value)>; 3] {
    let id = format!("R{request}");
    let last = extras.len() - 1;
    let mut own = vec![sent(&id, &url(request, 0), "Script")];
    for hop in 1..extras.len() {
        own.push(redirected(&id, &url(request, hop), &url(request, hop - 1), extras[hop - 1]));
    }
    if fails {
        own.push(failed(&id, "net::ERR_X", false));
    } else {
        own.push(received(&id, &url(request, last), "Script", 200, extras[last]));
        own.push(finished(&id));
    }
    let told = || (0..extras.len()).filter(|hop| extras[*hop] && !(fails && *hop == last));
    let sent = told().map(|hop| sent_extra(&id, (10 * request + hop) as f64)).collect();
    let cookie = |hop: usize| format!("c{request}{hop}=1");
    let received =
        told().map(|hop| received_extra(&id, if hop == last { 200 } else { 302 }, &cookie(hop))).collect();
    [own, sent, received]
}

fn run(events: Vec<(&'static str, Value)>) -> Vec<String> {
    let mut bench = Bench::with(SaveContent::All);
    // Bodies come at once.
    for event in events {
        bench.event(event);
        let asked: Vec<i64> = bench.asked_bodies().iter().map(|b| b.request_id).collect();
        for id in asked {
            let result = BodyResult::Stored { sha256: format!("{id:064}"), bytes: 9 };
            let actions = bench.tracker.on_body(id, result);
            bench.actions.extend(actions);
        }
    }
    bench.actions.retain(|a| !matches!(a, Action::FetchBody(_)));
    bench.finish();
    let asked: Vec<_> = bench.asked_bodies().into_iter().cloned().collect();
    assert!(asked.is_empty(), "asked for after the end: {asked:?}");
    rows(&bench)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// M10, I10: whenever the ExtraInfo events come, the rows are the same.
    #[test]
    fn rows_do_not_depend_on_when_extra_info_comes(
        requests in prop::collection::vec((prop::collection::vec(any::<bool>(), 1..5), any::<bool>()), 1..4),
        choices in prop::collection::vec(0usize..12, 40),
    ) {
        let lists: Vec<_> = requests.iter().enumerate()
            .map(|(at, (extras, fails))| streams(at, extras, *fails)).collect();
        // The order of the requests among each other stays; ExtraInfo goes where it likes.
        let own: Vec<_> = lists.iter().flat_map(|l| l[0].clone()).collect();
        let mut all = vec![own.clone()];
        all.extend(lists.iter().flat_map(|l| [l[1].clone(), l[2].clone()]));
        let late: Vec<_> = own.into_iter().chain(all[1..].concat()).collect();
        let early: Vec<_> = all[1..].concat().into_iter().chain(all[0].clone()).collect();
        let expected = run(late);
        prop_assert_eq!(&expected, &run(early));
        prop_assert_eq!(&expected, &run(merge(&all, &choices)));
        let count = |what: &str| expected.iter().filter(|r| r.contains(what)).count();
        let hops: usize = requests.iter().map(|(extras, _)| extras.len()).sum();
        prop_assert_eq!(count("HttpRequest("), hops);
        prop_assert_eq!(count("HttpRedirect("), hops - requests.len());
        prop_assert_eq!(count("HttpResponse(") + count("HttpFailure("), requests.len());
        prop_assert_eq!(count("Truncation("), 0);
    }

    /// M10: a service worker that is attached twice tells everything twice.
    #[test]
    fn what_two_sessions_tell_is_recorded_once(
        extras in prop::collection::vec(any::<bool>(), 1..5),
        choices in prop::collection::vec(0usize..12, 40),
    ) {
        let events: Vec<_> = { let [own, sent, received] = streams(0, &extras, false); merge(&[own, sent, received], &choices) };
        let mut once = Bench::with(SaveContent::None);
        once.events(events.clone());
        once.finish();
        let mut twice = Bench::with(SaveContent::None);
        let (a, b) = (session("S", "page", PAGE, None), session("S2", "page", PAGE, None));
        let doubled = [&a, &b].map(|s| events.iter().map(|e| (s.clone(), e.clone())).collect::<Vec<_>>());
        for (session, (method, params)) in merge(&doubled, &choices) {
            twice.event_of(&session, method, &params);
        }
        twice.finish();
        let rows_only = |bench: &Bench| rows(bench).into_iter().filter(|r| !r.contains("late_extra_info")).collect::<Vec<_>>();
        prop_assert_eq!(rows_only(&once), rows_only(&twice));
    }
}

#[test]
fn extra_info_that_never_comes_is_not_waited_for() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([
        sent("1", "https://a.test/", "Script"),
        received("1", "https://a.test/", "Script", 200, true),
        finished("1"),
    ]);
    assert!(bench.requests().is_empty());
    bench.now += 3_000_000;
    bench.event(("Page.frameAttached", json!({"frameId": "F", "parentFrameId": PAGE})));
    assert_eq!((bench.requests().len(), bench.responses().len()), (1, 1));
    assert!(!bench.requests()[0].headers_final);
    bench.event(received_extra("1", 200, "late=1"));
    bench.event(received_extra("other", 200, "lone=1"));
    bench.finish();
    let missed: Vec<_> = bench.truncations().iter().map(|t| t.reason.clone()).collect();
    assert_eq!(missed, ["extra_info_without_request", "late_extra_info"]);
}
