//! Runs the integrity suite and prints its table: exit 0 when every line holds, 9 when not.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sonde_proto::visit::v1::BrowserKind;
use sonde_site::{Site, SiteOptions};
use sonde_tests::integrity::{Lab, run, table};
use sonde_tests::session::Browsers;
use sonde_tests::world::World;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Chromium,
    Firefox,
    Both,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Firefox {
    Wrapped,
    Exported,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chromium {
    Wrapped,
    Stealth,
}

/// Visits hostile pages of the fixture site and says, line by line, what they could do against the instruments.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Browsers to run it on
    #[arg(long, value_enum, default_value = "both")]
    browser: Which,
    /// How Firefox captures calls, where it is not to be the default
    #[arg(long, value_enum, value_name = "MODE")]
    firefox_capture: Option<Firefox>,
    /// How Chromium captures calls, where it is not to be the default
    #[arg(long, value_enum, value_name = "MODE")]
    chromium_capture: Option<Chromium>,
    /// Only this line, as I7
    #[arg(long, value_name = "LINE")]
    line: Option<String>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kinds: &[BrowserKind] = match arguments.browser {
        Which::Chromium => &[BrowserKind::Chromium],
        Which::Firefox => &[BrowserKind::Firefox],
        Which::Both => &[BrowserKind::Chromium, BrowserKind::Firefox],
    };
    let world = World::new();
    let site = match Site::start(SiteOptions::default()).await {
        Ok(site) => site,
        Err(error) => {
            eprintln!("sonde-integrity: {error}");
            return ExitCode::FAILURE;
        }
    };
    let firefox = arguments.firefox_capture.map(|mode| match mode {
        Firefox::Wrapped => ("FIREFOX_CAPTURE", "wrapped"),
        Firefox::Exported => ("FIREFOX_CAPTURE", "exported"),
    });
    let chromium = arguments.chromium_capture.map(|mode| match mode {
        Chromium::Wrapped => ("CHROMIUM_CAPTURE", "wrapped"),
        Chromium::Stealth => ("CHROMIUM_CAPTURE", "stealth"),
    });
    let settings: Vec<_> = firefox.into_iter().chain(chromium).collect();
    let browsers = Browsers::start_with(&world, 2, &settings).await;
    let mut columns = Vec::new();
    for (slot, kind) in (0..).zip(kinds) {
        let mut lab = Lab::new(browsers.slot(slot).await, *kind, site.clone(), world.data());
        columns.push(run(&mut lab, &arguments.line.as_deref().into_iter().collect::<Vec<_>>()).await);
    }
    print!("{}", table(&columns));
    let faults: Vec<String> = columns.iter().flat_map(sonde_tests::integrity::Column::faults).collect();
    for fault in &faults {
        println!("{fault}");
    }
    println!("faults = {}", faults.len());
    ExitCode::from(if faults.is_empty() { 0 } else { 9 })
}
