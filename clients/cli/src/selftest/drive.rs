//! One visit of one page on a driven browser.

use std::time::Duration;

use sonde_proto::coordinator::v1::{
    DriveRequest, DriveResponse, DriveStart, crawl_event::Event, crawl_service_client::CrawlServiceClient,
    drive_request, drive_response,
};
use sonde_proto::visit::v1::{
    BrowserSpec, Command, GetCommand, Instruments, LoadPolicy, Outcome, SleepCommand, command::Step,
};
use sonde_site::{Page, Site};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::args::BrowserArg;
use crate::flags::{self, proto_duration};

/// For a page to report that it is done.
const PAGE: Duration = Duration::from_secs(60);
/// After that, for answers that are still on their way to the page.
const TRAILING: Duration = Duration::from_millis(300);

/// The pages open windows without a user who clicks.
fn spec(kind: BrowserArg) -> BrowserSpec {
    let flag = match kind {
        BrowserArg::Chromium => "--disable-popup-blocking",
        BrowserArg::Firefox => "--set-pref=dom.disable_open_during_load=false",
    };
    let extra_flags = vec![flag.to_owned()];
    BrowserSpec { kind: flags::of_kind(kind).into(), extra_flags, ..BrowserSpec::default() }
}

/// Loads a page, waits until it reports that it is done, and ends the visit.
pub async fn drive(
    channel: &Channel,
    kind: BrowserArg,
    site: &Site,
    page: &Page,
    token: &str,
) -> Result<(), String> {
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
            feature_use_check: kind == BrowserArg::Chromium,
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
    }
    let sleep = Step::Sleep(SleepCommand { duration: Some(proto_duration(TRAILING)) });
    send(drive_request::Message::Command(Command { step: Some(sleep), ..Command::default() })).await?;
    drop(sender);
    let mut outcome = Outcome::Unspecified;
    let mut why = String::new();
    while let Some(DriveResponse { message, .. }) =
        answers.message().await.map_err(|e| e.message().to_owned())?
    {
        match message {
            Some(drive_response::Message::Refused(failure)) => return Err(failure.message),
            Some(drive_response::Message::Event(event)) => {
                if let Some(Event::VisitEnded(ended)) = event.event {
                    outcome = ended.outcome();
                    why = ended.failure.map(|f| f.message).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    if outcome == Outcome::Ok { Ok(()) } else { Err(format!("outcome {}: {why}", outcome.word())) }
}
