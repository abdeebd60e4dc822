//! The profile of a visit's browser, as an archive.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use sonde_proto::visit::v1::DumpProfileCommand;
use tokio::time::Instant;

use super::script::Refusal;
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::Made;
use crate::engine::profiles::pack_home;
use crate::engine::scratch::Scratch;

/// Longest archive in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Runs the command.
pub(super) async fn dump_profile(
    page: &mut impl Page,
    asked: &DumpProfileCommand,
    deadline: Instant,
) -> CommandReport {
    let archive = match archive(page, deadline).await {
        Ok(archive) => archive,
        Err(why) => return reported(page, "dump_profile", Err(why), deadline).await,
    };
    page.progress().detail("storing the profile");
    let made =
        Made { kind: "profile", media_type: "application/gzip", suffix: &asked.suffix, ending: "tar.gz" };
    made.keep(page.uplink(), page.url(), archive.into(), deadline).await
}

async fn archive<P: Page>(page: &mut P, deadline: Instant) -> Result<Vec<u8>, Why<P::NotLoaded>> {
    let Some(home) = page.noted_profile(deadline).await? else {
        let message = "the visit has no profile on disk, its state is in memory only: crawl with kept profiles \
                       (--isolation profile), or from a seed (--seed-profile)";
        return Err(Refusal::new("no_profile", message).into());
    };
    let unwritten = |error| Refusal::new("not_written", format!("the profile cannot be packed: {error}"));
    let scratch = Scratch::new(page.shared().run_dir.path(), "profile").map_err(unwritten)?;
    let file = scratch.path().join("profile.tar.gz");
    page.progress().detail("packing the profile");
    let packing = {
        let file = file.clone();
        move || pack(home, &file)
    };
    let packed = tokio::task::spawn_blocking(packing).await.map_err(io::Error::other);
    let bytes = packed.and_then(|packed| packed).map_err(unwritten)?;
    if bytes > MAX_BYTES {
        let message = format!("the archive has {bytes} bytes, at most {MAX_BYTES}");
        return Err(Refusal::new("too_long", message).into());
    }
    Ok(tokio::fs::read(&file).await.map_err(unwritten)?)
}

/// Gives the length of the archive.
fn pack(home: PathBuf, file: &std::path::Path) -> io::Result<u64> {
    let mut archive = pack_home(&home, BufWriter::new(File::create(file)?))?;
    archive.flush()?;
    Ok(archive.get_ref().metadata()?.len())
}
