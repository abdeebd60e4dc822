//! P7: CPU of the coordinator per visit. The scripted neighbours run in another process, so that only ours is counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "../tests/scripted/mod.rs"]
mod scripted;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use scripted::{ScriptedBrowsers, ScriptedStorage, add, at, crawl, create, serve, unix};
use sonde_coordinator::{Config, Coordinator, SERVICE_NAMES};
use sonde_proto::coordinator::v1::{CrawlSpec, CrawlState, crawl_service_client::CrawlServiceClient};
use sonde_runtime::endpoint::{Inproc, connect};
use tokio_util::sync::CancellationToken;

const VISITS: usize = 20_000;
const SLOTS: u32 = 8;
const NEIGHBOURS: &str = "SONDE_BENCH_NEIGHBOURS";

fn cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a rusage of ours, which the call fills.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

async fn neighbours(dir: &Path) {
    let inproc = Inproc::new();
    serve(&unix(dir, "s.sock"), &inproc, ScriptedStorage::new().routes(), &[]).await;
    serve(&unix(dir, "b.sock"), &inproc, ScriptedBrowsers::new(SLOTS).routes(), &[]).await;
    std::future::pending::<()>().await;
}

/// Ends the neighbours with the bench.
struct Neighbours(Child);

impl Drop for Neighbours {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() {
    if let Some(dir) = std::env::var_os(NEIGHBOURS) {
        return neighbours(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let child = Command::new(std::env::current_exe().expect("this executable"))
        .env(NEIGHBOURS, dir.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("the neighbours start");
    let _neighbours = Neighbours(child);
    let inproc = Inproc::new();
    let channel = |name| connect(&unix(dir.path(), name), &inproc).expect("an endpoint");
    let config = Config { data_dir: dir.path().join("data"), ..Default::default() };
    let browsers = vec![("bench".to_owned(), channel("b.sock"))];
    let coordinator = Coordinator::start(config, channel("s.sock"), browsers, CancellationToken::new())
        .await
        .expect("it starts");
    serve(&at("coordinator"), &inproc, coordinator.routes(), SERVICE_NAMES).await;
    let mut client = CrawlServiceClient::new(connect(&at("coordinator"), &inproc).expect("an endpoint"));
    let crawl_id = create(&mut client, "bench", CrawlSpec::default()).await.crawl_id;
    let (cpu_before, began) = (cpu(), Instant::now());
    let urls = (0..VISITS).map(|i| format!("https://ok.site{i}.org/")).collect();
    add(&mut client, &crawl_id, urls, true).await;
    let (cpu_added, rss_added) = (cpu(), rss_kib());
    while crawl(&mut client, &crawl_id).await.state() != CrawlState::Ended {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (used, took) = (cpu() - cpu_before, began.elapsed());
    let per_visit = |d: Duration| d.as_secs_f64() * 1000.0 / VISITS as f64;
    println!(
        "P7 coordinator CPU per visit: {:.3} ms (target <= 1 ms, best 0.3 ms), of it adding: {:.3} ms",
        per_visit(used),
        per_visit(cpu_added - cpu_before)
    );
    println!(
        "   {VISITS} visits on {SLOTS} slots in {:.1} s: {:.0} visits/s; RSS {} KiB with all queued, {} KiB at the end",
        took.as_secs_f64(),
        VISITS as f64 / took.as_secs_f64(),
        rss_added,
        rss_kib()
    );
    coordinator.close().await;
}
