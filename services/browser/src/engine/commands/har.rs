//! What was requested, as a HAR.

use std::time::Duration;

use sonde_proto::StreamId;
use sonde_proto::har::{HarPage, har};
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::HarCommand;
use sonde_runtime::clock::wall_us;
use tokio::time::{Instant, timeout_at};

use super::script::Refusal;
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::Made;

/// Instruments tell of what has happened a little later: so long without news, and all is there.
const QUIET: Duration = Duration::from_millis(500);

/// Of a page that never rests what there is by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
pub(super) async fn store_har(
    page: &mut impl Page,
    index: u32,
    asked: &HarCommand,
    deadline: Instant,
) -> CommandReport {
    match log(page, index, deadline).await {
        Ok(log) => {
            let made =
                Made { kind: "har", media_type: "application/json", suffix: &asked.suffix, ending: "har" };
            made.keep(page.uplink(), page.url(), log.into(), deadline).await
        }
        Err(why) => reported(page, "har", Err(why), deadline).await,
    }
}

async fn log<P: Page>(page: &mut P, index: u32, deadline: Instant) -> Result<Vec<u8>, Why<P::NotLoaded>> {
    page.progress().detail("waiting for the network's rows");
    let mut news = page.uplink().news();
    news.mark_unchanged();
    let patience = deadline.min(Instant::now() + PATIENCE);
    while timeout_at(patience.min(Instant::now() + QUIET), news.changed())
        .await
        .is_ok_and(|news| news.is_ok())
    {}
    let Some(gathered) = page.uplink().traffic().all() else {
        let message = "the visit records no HTTP: ask for that instrument (--instruments http)";
        return Err(Refusal::new("no_http", message).into());
    };
    if gathered.dropped > 0 {
        let row = Row::Truncation(Truncation {
            table_name: "artifacts".to_owned(),
            reason: "har_rows".to_owned(),
            dropped_rows: i64::try_from(gathered.dropped).unwrap_or(i64::MAX),
            limit_value: i64::try_from(gathered.rows.len()).unwrap_or(i64::MAX),
            subject: Some(format!("command {index}: rows of the HAR")),
            ..Truncation::default()
        });
        let recorded = page.uplink().record(StreamId::SERVICE, wall_us(), row).await;
        recorded
            .map_err(|error| Refusal::new("not_stored", format!("a truncation was not recorded: {error}")))?;
    }
    let url = page.url();
    let of = HarPage { url: &url, browser: P::BROWSER };
    Ok(har(gathered.rows.iter().map(|(at, row)| (*at, row)), &of).to_string().into_bytes())
}
