//! The binary, killed and stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod scripted;

use std::{
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use scripted::{Client, World, add, assert_one_outcome_each, create, serve, unix, until};
use sonde_proto::coordinator::v1::{CrawlSpec, crawl_service_client::CrawlServiceClient};
use sonde_runtime::endpoint::connect;

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(dir: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_sonde-coordinator"))
            .args(["--data-dir", dir.join("data").to_str().unwrap()])
            .args(["--listen", &unix(dir, "c.sock").to_string()])
            .args(["--storage", &unix(dir, "s.sock").to_string()])
            .args(["--browser", &unix(dir, "b.sock").to_string()])
            .args(["--set", "coordinator.lease=5s", "--set", "telemetry.level=warn"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", async || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    fn terminate(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

async fn client(world: &World) -> Client {
    let channel = connect(&unix(world.dir.path(), "c.sock"), &world.inproc).unwrap();
    let mut client = CrawlServiceClient::new(channel);
    until("it answers", async || {
        client.list_crawls(sonde_proto::coordinator::v1::ListCrawlsRequest::default()).await.is_ok()
    })
    .await;
    client
}

/// R1, R2, R12: SIGKILL mid-crawl, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_loses_and_repeats_nothing() {
    let world = World::new(4).await;
    let dir = world.dir.path();
    serve(&unix(dir, "s.sock"), &world.inproc, world.storage.routes(), &[]).await;
    serve(&unix(dir, "b.sock"), &world.inproc, world.browsers.routes(), &[]).await;
    let mut process = Process::start(dir);
    let mut c = client(&world).await;
    let crawl_id = create(&mut c, "a", CrawlSpec::default()).await.crawl_id;
    let urls = (0..300).map(|i| format!("https://slow.site{i}.org/")).collect();
    add(&mut c, &crawl_id, urls, true).await;
    for kill in 1..=4 {
        until("it goes on", async || world.storage.outcomes() >= kill * 40).await;
        drop(process);
        process = Process::start(dir);
    }
    let mut c = client(&world).await;
    assert_one_outcome_each(&world, &mut c, &crawl_id, 300).await;
    process.terminate();
    assert!(process.ended().await.success());
    assert!(!dir.join("c.sock").exists(), "R14: the socket is gone");
}

/// R14: the first signal drains, the second ends at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_at_once() {
    let world = World::new(1).await;
    let dir = world.dir.path();
    serve(&unix(dir, "s.sock"), &world.inproc, world.storage.routes(), &[]).await;
    serve(&unix(dir, "b.sock"), &world.inproc, world.browsers.routes(), &[]).await;
    let mut process = Process::start(dir);
    let mut c = client(&world).await;
    let crawl_id = create(&mut c, "a", CrawlSpec::default()).await.crawl_id;
    add(&mut c, &crawl_id, vec!["https://hang.a.org/".into()], true).await;
    until("it runs", async || world.browsers.running() == 1).await;
    process.terminate();
    let waiting = async || {
        let crawl = scripted::crawl(&mut c.clone(), &crawl_id).await;
        crawl.counts.unwrap().running == 1
    };
    assert!(waiting().await, "it drains, and still answers");
    tokio::time::sleep(Duration::from_millis(200)).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(143));
}

#[test]
fn wrong_configuration_is_refused_with_code_4() {
    let output = Command::new(env!("CARGO_BIN_EXE_sonde-coordinator"))
        .args(["--set", "coordinator.laese=3s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lease"));
    let output = Command::new(env!("CARGO_BIN_EXE_sonde-coordinator"))
        .args(["--print-config", "--browser", "unix:/run/b.sock"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("[coordinator]") && text.contains("unix:/run/b.sock"), "{text}");
}
