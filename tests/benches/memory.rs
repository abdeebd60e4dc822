//! P10: resident memory of the idle services, and of the browser-service per active visit.

use std::time::Duration;

use sonde_proto::browser::v1::session_response::Message as Told;
use sonde_proto::visit::v1::{GetCommand, Outcome, SleepCommand, command::Step};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::measure::median;
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, all_instruments};
use sonde_tests::up::Up;
use sonde_tests::world::World;

const MIB: f64 = 1024.0 * 1024.0;
const SERVICES: [&str; 3] = ["sonde-coordinator", "sonde-browser", "sonde-storage"];
const VISITS: u32 = 4;
const STARTS: usize = 5;

fn resident(process: &Process) -> f64 {
    process.resident(false).expect("a living process of ours can be read") as f64 / MIB
}

#[tokio::main]
async fn main() {
    let mut totals = Vec::new();
    for _ in 0..STARTS {
        let world = World::new();
        let up = Up::start(&world, 1).await;
        let each = SERVICES.map(|name| resident(&world.service(name).expect("the service runs")));
        totals.push(each);
        up.stop(&world).await;
    }
    let of = |service: usize| median(&totals.iter().map(|each| each[service]).collect::<Vec<_>>());
    let sums: Vec<f64> = totals.iter().map(|each| each.iter().sum()).collect();
    println!(
        "P10 idle services: {} {:.1} MB + {} {:.1} MB + {} {:.1} MB = {:.1} MB RSS (median of {STARTS} starts; target <= 60 MB)",
        SERVICES[0],
        of(0),
        SERVICES[1],
        of(1),
        SERVICES[2],
        of(2),
        median(&sums)
    );
    active_visits().await;
}

/// With browsers up and idle, then with a visit in each that has loaded its page and stays.
async fn active_visits() {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.expect("the site starts"));
    let browsers = Browsers::start(&world, VISITS).await;
    let service = Process::read(browsers.service.pid()).expect("the service runs");
    let url = page("javascript").expect("the site has the page").url(&site, "memory", "");
    let mut slots = Vec::new();
    for slot in 0..VISITS {
        let mut slot = browsers.slot(slot).await;
        let warm = slot.visit(&url, all_instruments(), vec![Step::Get(GetCommand::default())]).await;
        assert_eq!(warm.outcome(), Outcome::Ok, "{:?}", warm.failure);
        slots.push(slot);
    }
    let mut figures = Vec::new();
    for _ in 0..STARTS {
        let idle = resident(&service);
        for slot in &mut slots {
            let stay = SleepCommand { duration: Some(prost_types::Duration { seconds: 3, nanos: 0 }) };
            let steps = vec![Step::Get(GetCommand::default()), Step::Sleep(stay)];
            slot.begin(&url, all_instruments(), steps).await;
        }
        for slot in &mut slots {
            while !matches!(slot.told().await, Told::CommandEnded(_)) {}
        }
        let active = resident(&service);
        figures.push((idle, active));
        for slot in &mut slots {
            slot.ended().await;
        }
    }
    let (idle, active): (Vec<f64>, Vec<f64>) = figures.iter().copied().unzip();
    let per_visit: Vec<f64> =
        figures.iter().map(|(idle, active)| (active - idle) / f64::from(VISITS)).collect();
    println!(
        "P10 browser-service: {:.1} MB with {VISITS} active visits, {:.1} MB with none: {:.2} MB per active visit \
         (median of {STARTS}; target <= 3 MB)",
        median(&active),
        median(&idle),
        median(&per_visit)
    );
    // They are killed: what they would have removed goes with the world.
    drop(browsers);
    world.assert_no_process_left(Duration::from_secs(10)).await;
}
