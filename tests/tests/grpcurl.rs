//! The services as a stranger meets them: with grpcurl and nothing of ours.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use sonde_site::{Site, SiteOptions, page};
use sonde_tests::up::Up;
use sonde_tests::workspace;
use sonde_tests::world::{Running, World};

const SOON: Duration = Duration::from_secs(30);
const HEALTH: &str = "grpc.health.v1.Health";

/// Where grpcurl finds a service.
#[derive(Clone, Copy)]
enum At<'a> {
    Tcp(&'a str),
    Unix(&'a Path),
}

fn start(world: &World, at: At<'_>, flags: &[&str], rest: &[&str]) -> Running {
    let mut arguments = vec!["-plaintext", "-max-time", "120"];
    let address = match at {
        At::Tcp(authority) => authority,
        At::Unix(path) => {
            // Without it grpcurl names the server by the path, which is no name of a host that HTTP/2 takes.
            arguments.extend(["-unix=true", "-authority", "localhost"]);
            path.to_str().unwrap()
        }
    };
    arguments.extend(flags);
    arguments.push(address);
    arguments.extend(rest);
    world.start(&workspace::tool("grpcurl"), arguments)
}

/// What grpcurl answers; fails with its words when it does.
async fn ask(world: &World, at: At<'_>, flags: &[&str], rest: &[&str]) -> String {
    let mut grpcurl = start(world, at, flags, rest);
    let code = grpcurl.code(SOON).await;
    assert_eq!(code, 0, "grpcurl {flags:?} {rest:?}: {}", grpcurl.stderr());
    grpcurl.stdout()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_is_listed_described_healthy_and_runs_a_visit() {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let up = Up::start(&world, 1).await;
    let coordinator = At::Tcp(up.authority());
    let processes: [(At<'_>, &[&str]); 3] = [
        (coordinator, &["sonde.coordinator.v1.CrawlService", "sonde.coordinator.v1.FleetService"]),
        (At::Unix(&up.browser), &["sonde.browser.v1.BrowserService", "sonde.browser.v1.ProcessService"]),
        (
            At::Unix(&up.storage),
            &[
                "sonde.storage.v1.BlobService",
                "sonde.storage.v1.IngestService",
                "sonde.storage.v1.RecordService",
            ],
        ),
    ];
    for (at, services) in processes {
        let list = ask(&world, at, &[], &["list"]).await;
        let listed: Vec<&str> = list.lines().filter(|line| line.starts_with("sonde.")).collect();
        assert_eq!(listed, services);
        assert!(list.lines().any(|line| line == HEALTH), "{list}");
        let whole = ask(&world, at, &["-d", "{}"], &[&format!("{HEALTH}/Check")]).await;
        assert!(whole.contains("SERVING") && !whole.contains("NOT_SERVING"), "{whole}");
        for service in services {
            let described = ask(&world, at, &[], &["describe", service]).await;
            assert!(described.contains(&format!("{service} is a service")), "{described}");
            let methods = ask(&world, at, &[], &["list", service]).await;
            for method in methods.lines() {
                let method = ask(&world, at, &[], &["describe", method]).await;
                let request =
                    method.split("rpc ").nth(1).and_then(|rpc| rpc.split(['(', ')']).nth(1)).unwrap();
                let request = request.trim().trim_start_matches("stream ").trim().trim_start_matches('.');
                let message = ask(&world, at, &[], &["describe", request]).await;
                assert!(message.contains(&format!("{request} is a message")), "{message}");
            }
            let asked = format!("{{\"service\":\"{service}\"}}");
            let health = ask(&world, at, &["-d", &asked], &[&format!("{HEALTH}/Check")]).await;
            assert!(health.contains("\"SERVING\""), "{service}: {health}");
        }
    }
    events_arrive_while_the_visit_runs(&world, coordinator, &site).await;
    up.stop(&world).await;
}

async fn events_arrive_while_the_visit_runs(world: &World, coordinator: At<'_>, site: &Site) {
    let url = page("static-small").unwrap().url(site, "grpcurl", "");
    // The visit stays until it is told to go on: it cannot be over when its first events are there.
    let request = format!(
        r#"{{"sequence":{{"url":"{url}","commands":[{{"get":{{}}}},{{"sleep":{{"duration":"2s"}}}}]}}}}"#
    );
    let method = "sonde.coordinator.v1.CrawlService/RunVisit";
    let mut visit = start(world, coordinator, &["-d", &request], &[method]);
    let early = visit
        .shows("the visit's sleep", Duration::from_secs(60), |text| {
            text.contains("\"name\": \"sleep\"").then(|| text.to_owned())
        })
        .await;
    assert!(early.contains("\"attemptStarted\""), "{early}");
    assert!(!early.contains("\"visitEnded\""), "all events came at the end: {early}");
    assert_eq!(visit.code(SOON).await, 0, "{}", visit.stderr());
    let all = visit.stdout();
    let last = all.rsplit("\"event\": {").next().unwrap();
    assert!(last.contains("\"visitEnded\"") && last.contains("OUTCOME_OK"), "{all}");
    assert!(last.contains("\"complete\": true"), "{all}");
    assert!(!site.hits_for("grpcurl").is_empty());
}
