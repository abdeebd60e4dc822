//! Hands a crawl and its site list to a coordinator. The list's content and the
//! spec name the crawl, so that doing it again goes on where it stopped.

use std::hash::Hasher;

use prost::Message;
use sonde_proto::coordinator::v1::{
    AddVisitsRequest, AddVisitsResponse, Crawl, CrawlSpec, CreateCrawlRequest, GetCrawlRequest, VisitSpec,
    crawl_service_client::CrawlServiceClient,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::exit::CliError;
use crate::lists::{BadLine, Lists, Site};

/// Lines a message carries.
const CHUNK: usize = 500;

/// What was submitted.
pub struct Submitted {
    /// The crawl, with its counts.
    pub crawl: Crawl,
    /// Whether the crawl was there already.
    pub resumed: bool,
    /// Lines that are no sites.
    pub bad: Vec<BadLine>,
    /// Number of such lines (only the first 100 are kept).
    pub bad_count: u64,
}

/// Creates the crawl, or finds the one of the same list and spec, and adds its visits.
pub async fn submit(
    client: &mut CrawlServiceClient<Channel>,
    spec: CrawlSpec,
    lists: &mut Lists,
    anew: bool,
) -> Result<Submitted, CliError> {
    let (fine, bad, bad_count) = survey(lists)?;
    if fine == 0 {
        let first = bad.first().map(|b| format!("; {}: {}", b.place, b.message)).unwrap_or_default();
        return Err(CliError::Input(format!("none of the {bad_count} listed sites can be visited{first}")));
    }
    let mut request_id = request_id(&spec, lists)?;
    if anew {
        request_id = format!("{request_id}-{}", uuid::Uuid::now_v7());
    }
    let request = CreateCrawlRequest { request_id, spec: Some(spec) };
    let crawl = client.create_crawl(request).await?.into_inner().crawl.unwrap_or_default();
    let resumed = crawl.counts.as_ref().is_some_and(|c| c.total > 0);
    if !crawl.sealed {
        add(client, &crawl.crawl_id, lists).await?;
    }
    let request = GetCrawlRequest { crawl_id: crawl.crawl_id };
    let crawl = client.get_crawl(request).await?.into_inner().crawl.unwrap_or_default();
    Ok(Submitted { crawl, resumed, bad, bad_count })
}

fn survey(lists: &mut Lists) -> Result<(u64, Vec<BadLine>, u64), CliError> {
    let (mut fine, mut bad, mut bad_count) = (0, Vec::new(), 0);
    lists.for_each(|_, line| {
        match line {
            Ok(_) => fine += 1,
            Err(wrong) => {
                bad_count += 1;
                if bad.len() < 100 {
                    bad.push(wrong);
                }
            }
        }
        Ok(())
    })?;
    Ok((fine, bad, bad_count))
}

/// FNV-1a of the list and the spec: not a secret, only a name.
struct Name(u128);

impl Hasher for Name {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u64 {
        self.0 as u64
    }
}

fn request_id(spec: &CrawlSpec, lists: &mut Lists) -> Result<String, CliError> {
    let mut name = Name(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    name.write(&spec.encode_to_vec());
    lists.for_each(|number, line| {
        if let Ok(site) = line {
            name.write_i64(number);
            name.write(site.url.as_bytes());
            name.write_u8(0);
            name.write_i64(site.rank.unwrap_or(-1));
        }
        Ok(())
    })?;
    Ok(format!("cli-{:032x}", name.0))
}

async fn add(
    client: &mut CrawlServiceClient<Channel>,
    crawl_id: &str,
    lists: &mut Lists,
) -> Result<AddVisitsResponse, CliError> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<AddVisitsRequest>(4);
    let call = client.add_visits(ReceiverStream::new(receiver));
    // Reading a list blocks, and so does a full channel: that is the flow control.
    let feed = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feed(sender, crawl_id, lists));
            let answer = tokio::runtime::Handle::current().block_on(call);
            (answer, feeding.join())
        })
    });
    let (answer, fed) = feed;
    let answer = answer?.into_inner();
    fed.map_err(|_| CliError::Service("reading the site list failed".to_owned()))??;
    if let Some(first) = answer.errors.first() {
        return Err(CliError::Input(format!(
            "the coordinator refused {} of the sites; the first, number {}: {}",
            answer.error_count, first.line_no, first.message
        )));
    }
    Ok(answer)
}

/// Sends the whole list and the seal; ends early when the call has ended.
fn feed(
    sender: tokio::sync::mpsc::Sender<AddVisitsRequest>,
    crawl_id: &str,
    lists: &mut Lists,
) -> Result<(), CliError> {
    let mut visits = Vec::with_capacity(CHUNK);
    let message = |visits, seal| AddVisitsRequest { crawl_id: crawl_id.to_owned(), visits, seal };
    let mut open = true;
    lists.for_each(|number, line| {
        if let Ok(Site { url, rank }) = line {
            visits.push(VisitSpec { line_no: number, url, site_rank: rank, commands: Vec::new() });
        }
        if visits.len() == CHUNK && open {
            open = sender.blocking_send(message(std::mem::take(&mut visits), false)).is_ok();
        }
        Ok(())
    })?;
    if open {
        // A closed call says why in its answer.
        let _ = sender.blocking_send(message(visits, true));
    }
    Ok(())
}
