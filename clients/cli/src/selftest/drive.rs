//! One visit of one page on a driven browser.

use std::time::Duration;

use sonde_proto::coordinator::v1::{
    DriveFinish, DriveRequest, DriveResponse, DriveStart, crawl_event::Event,
    crawl_service_client::CrawlServiceClient, drive_request, drive_response,
};
use sonde_proto::visit::v1::{
    BrowserSpec, Command, GetCommand, Instruments, LoadPolicy, Outcome, command::Step,
};
use sonde_site::{Page, Site};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::args::BrowserArg;
use crate::flags;

/// For a page to report that it is done, and then that it has the site's answers.
const PAGE: Duration = Duration::from_secs(60);
/// For pages without `probe.js` to have the site's answers: those do not say when they have them.
const UNSETTLED: Duration = Duration::from_millis(300);
/// The default, and stacks of what no page uses by the way.
const SETTINGS: &str = r#"["collection_fingerprinting",
    {"TextEncoder": {"propertiesToInstrument": ["encoding", "encode"], "logCallStack": true}}]"#;

/// The pages open windows without a user who clicks.
fn spec(kind: BrowserArg) -> BrowserSpec {
    let flag = match kind {
        BrowserArg::Chromium => "--disable-popup-blocking",
        BrowserArg::Firefox => "--set-pref=dom.disable_open_during_load=false",
    };
    let extra_flags = vec![flag.to_owned()];
    BrowserSpec { kind: flags::of_kind(kind).into(), extra_flags, ..BrowserSpec::default() }
}

/// Loads a page, waits until it reports that it is done, and ends the visit: how long it had a browser.
pub async fn drive(
    channel: &Channel,
    kind: BrowserArg,
    site: &Site,
    page: &Page,
    token: &str,
) -> Result<Duration, String> {
    let url = page.url(site, token, "");
    let (sender, receiver) = mpsc::channel(4);
    let start = DriveStart {
        url: url.clone(),
        browser: Some(spec(kind)),
        instruments: Some(Instruments {
            http: true,
            cookies: true,
            javascript: true,
            navigations: true,
            dns: true,
            scripts: true,
            save_content: vec!["all".to_owned()],
            javascript_settings: SETTINGS.to_owned(),
            ..Instruments::default()
        }),
        ..DriveStart::default()
    };
    let send = async |message| {
        sender
            .send(DriveRequest { message: Some(message) })
            .await
            .map_err(|_| "the coordinator ended the drive".to_owned())
    };
    send(drive_request::Message::Start(start)).await?;
    let mut client = CrawlServiceClient::new(channel.clone());
    let mut answers =
        client.drive(ReceiverStream::new(receiver)).await.map_err(|e| e.message().to_owned())?.into_inner();
    let load_policy = LoadPolicy::Commit.into();
    let get = Step::Get(GetCommand { url, load_policy, ..GetCommand::default() });
    send(drive_request::Message::Command(Command { step: Some(get), ..Command::default() })).await?;
    if let Some(document) = page.done {
        site.wait_done(token, document, PAGE).await.map_err(|e| e.to_string())?;
        if site.truth(token).settles {
            site.wait_settled(token, document, PAGE).await.map_err(|e| e.to_string())?;
        } else {
            tokio::time::sleep(UNSETTLED).await;
        }
    }
    send(drive_request::Message::Finish(DriveFinish {})).await?;
    let mut outcome = Outcome::Unspecified;
    let mut why = String::new();
    let (mut began, mut over) = (Duration::ZERO, Duration::ZERO);
    while let Some(DriveResponse { message, at }) =
        answers.message().await.map_err(|e| e.message().to_owned())?
    {
        let at = at.and_then(|at| {
            Duration::try_from(prost_types::Duration { seconds: at.seconds, nanos: at.nanos }).ok()
        });
        match message {
            Some(drive_response::Message::Refused(failure)) => return Err(failure.message),
            Some(drive_response::Message::Event(event)) => match event.event {
                Some(Event::AttemptStarted(_)) => began = at.unwrap_or_default(),
                Some(Event::VisitEnded(ended)) => {
                    over = at.unwrap_or_default();
                    outcome = ended.outcome();
                    why = ended.failure.map(|f| f.message).unwrap_or_default();
                }
                _ => {}
            },
            _ => {}
        }
    }
    if outcome == Outcome::Ok {
        Ok(over.saturating_sub(began))
    } else {
        Err(format!("outcome {}: {why}", outcome.word()))
    }
}
