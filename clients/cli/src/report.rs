//! The end of a crawl: outcomes, rows per table, where the data are, and a
//! first query to try.

use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use sonde_proto::storage::v1::{CountRowsRequest, record_service_client::RecordServiceClient};
use tonic::transport::Channel;

use crate::exit::CliError;
use crate::format::{count, span};
use crate::progress::Tally;

/// Prints the outcomes.
pub fn outcomes(tally: &Tally, took: Duration) {
    let mut table = table(&["outcome", "visits"]);
    for (outcome, visits) in &tally.outcomes {
        table.add_row([outcome.clone(), visits.to_string()]);
    }
    println!("{table}");
    let left = tally.total.saturating_sub(tally.ended());
    let left = if left > 0 { format!(", {left} still to do") } else { String::new() };
    println!(
        "{} ended in {}{left}; {} were tried again.",
        count(tally.ended(), "visit"),
        span(took),
        tally.retried
    );
}

/// Prints the rows of a crawl per table, the place of the data and a query.
pub async fn rows(storage: &Channel, crawl_id: &str, data_dir: &Path) -> Result<(), CliError> {
    let mut client = RecordServiceClient::new(storage.clone());
    let request = CountRowsRequest { crawl_id: crawl_id.to_owned(), visit_id: 0 };
    let counted = client.count_rows(request).await?.into_inner();
    let mut table = table(&["table", "rows of this crawl"]);
    let mut names: Vec<_> = counted.rows.iter().filter(|(_, rows)| **rows > 0).collect();
    names.sort();
    for (name, rows) in names {
        table.add_row([name.clone(), rows.to_string()]);
    }
    println!("{table}");
    let file = data_dir.join("crawl.sqlite");
    println!("Data:  {}", file.display());
    println!(
        "Try:   sqlite3 -header {} \"SELECT top_level_url, count(*) AS requests, sum(is_third_party_to_top_window) AS \
         third_party FROM http_requests GROUP BY 1 ORDER BY 2 DESC LIMIT 10\"",
        file.display()
    );
    Ok(())
}

/// A table for people, with numbers on the right.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
