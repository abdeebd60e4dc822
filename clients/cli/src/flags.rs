//! From the arguments of a visit to the messages of the contract.

use std::time::Duration;

use sonde_proto::visit::v1::{
    BrowseCommand, BrowserSpec, Command, DumpPageSourceCommand, GetCommand, Instruments, Isolation,
    LoadPolicy, ScreenshotCommand, ThirdPartyCookies, command::Step,
};

use crate::args::{IsolationArg, Load, ThirdParty, VisitSetup};
use crate::exit::CliError;

/// A std duration as the contract's.
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("nanoseconds of a second fit"),
    }
}

/// What to record.
pub fn instruments(setup: &VisitSetup) -> Result<Instruments, CliError> {
    let mut chosen = Instruments { save_content: setup.save_content.clone(), ..Instruments::default() };
    for word in setup.instruments.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "none" => {}
            "all" => {
                (chosen.http, chosen.cookies, chosen.javascript, chosen.navigations) =
                    (true, true, true, true);
            }
            "http" => chosen.http = true,
            "cookies" => chosen.cookies = true,
            "javascript" | "js" => chosen.javascript = true,
            "navigations" => chosen.navigations = true,
            other => {
                return Err(CliError::Input(format!(
                    "--instruments: {other:?} is none of all, none, http, cookies, javascript, navigations"
                )));
            }
        }
    }
    if !chosen.save_content.is_empty() && !chosen.http {
        return Err(CliError::Input(
            "--save-content needs the http instrument: add it to --instruments".to_owned(),
        ));
    }
    Ok(chosen)
}

/// The browser to run on.
pub fn browser(setup: &VisitSetup) -> BrowserSpec {
    let isolation = match setup.isolation {
        IsolationArg::Context => Isolation::Context,
        IsolationArg::Process => Isolation::Process,
    };
    let third_party = match setup.third_party_cookies {
        ThirdParty::Always => ThirdPartyCookies::Always,
        ThirdParty::Never => ThirdPartyCookies::Never,
    };
    BrowserSpec {
        isolation: isolation.into(),
        third_party_cookies: third_party.into(),
        ..BrowserSpec::default()
    }
}

/// The commands of every visit.
pub fn commands(setup: &VisitSetup) -> Vec<Command> {
    let load_policy = match setup.load {
        Load::Load => LoadPolicy::Load,
        Load::Domcontentloaded => LoadPolicy::DomContentLoaded,
        Load::Networkidle => LoadPolicy::NetworkIdle,
        Load::Commit => LoadPolicy::Commit,
    }
    .into();
    let dwell = Some(proto_duration(setup.dwell));
    let page = match setup.browse {
        Some(links) => Step::Browse(BrowseCommand {
            num_links: Some(links),
            load_policy,
            dwell,
            ..BrowseCommand::default()
        }),
        None => Step::Get(GetCommand { load_policy, dwell, ..GetCommand::default() }),
    };
    let links = setup.browse.unwrap_or(0);
    let time = setup.timeout + (setup.dwell + Duration::from_secs(if links > 0 { 30 } else { 0 })) * links;
    let mut all = vec![Command {
        timeout: Some(proto_duration(time + setup.dwell)),
        step: Some(page),
        ..Command::default()
    }];
    let mut add = |step| all.push(Command { step: Some(step), ..Command::default() });
    if setup.screenshot {
        add(Step::Screenshot(ScreenshotCommand::default()));
    }
    if setup.full_page_screenshot {
        add(Step::Screenshot(ScreenshotCommand {
            full_page: true,
            suffix: "full".to_owned(),
            ..ScreenshotCommand::default()
        }));
    }
    if setup.page_source {
        add(Step::DumpPageSource(DumpPageSourceCommand::default()));
    }
    all
}
