//! How much memory a browser's processes take: their proportional set size, where pages that processes share count once.

use std::time::Duration;

use tokio::sync::mpsc;

use super::keeper::News;
use crate::process::{self, ProcessInfo};

/// Limits of a browser's memory, and how often it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes above which a browser is replaced after its visit; 0: none.
    pub soft: u64,
    /// Bytes above which its visit is ended; 0: none.
    pub hard: u64,
    pub every: Duration,
}

impl Memory {
    /// The lowest limit there is.
    fn first(&self) -> Option<u64> {
        [self.soft, self.hard].into_iter().filter(|limit| *limit > 0).min()
    }
}

/// Looks at the trees of these processes until it is dropped, and tells when they take more than a limit. `None` when
/// there is no limit or no process.
pub(super) fn sample(
    life: u64,
    roots: Vec<ProcessInfo>,
    memory: Memory,
    news: mpsc::Sender<News>,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    let limit = memory.first().filter(|_| !roots.is_empty())?;
    Some(async move {
        loop {
            tokio::time::sleep(memory.every).await;
            let these = roots.clone();
            let looking = tokio::task::spawn_blocking(move || taken(&these, limit));
            let bytes = match looking.await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::error!(%error, "the memory of a browser is not watched any more");
                    return;
                }
            };
            // A slot that has ended needs no telling.
            if bytes > limit && news.send(News::Heavy { life, bytes }).await.is_err() {
                return;
            }
        }
    })
}

/// Bytes that the trees take; less than they do when that is below `limit` anyway.
fn taken(roots: &[ProcessInfo], limit: u64) -> u64 {
    let members = roots.iter().flat_map(|root| process::members(root.pid, root.start_ticks, &root.mark));
    let mut pids: Vec<u32> = members.filter(|member| !member.zombie).map(|member| member.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    // Resident sizes are cheap to read and never less than the shares: most looks end here.
    let resident: u64 =
        pids.iter().filter_map(|pid| process::sizes(*pid)).map(|(_, resident)| resident).sum();
    if resident <= limit {
        return 0;
    }
    pids.iter().filter_map(|pid| process::share(*pid)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Spawn;

    /// M34
    #[tokio::test]
    async fn the_memory_of_a_tree_is_counted_once_for_all_its_processes() {
        // Bash keeps its string, and so does its child, which shares it until it writes.
        let script =
            "x=$(head -c 40000000 /dev/zero | tr '\\0' x); (echo ready; read; echo $x | wc -c) & wait";
        let child = process::spawn(Spawn::new("bash", "/bin/bash").args(["-c", script])).await.unwrap();
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        let info = child.info().clone();
        let (news, mut told) = mpsc::channel(1);
        let limits = |soft| Memory { soft, hard: 0, every: Duration::from_millis(50) };
        let sampling = sample(7, vec![info.clone()], limits(30 << 20), news.clone()).unwrap();
        let sampling = tokio::spawn(sampling);
        let heavy = tokio::time::timeout_at(end, told.recv()).await.expect("it is seen in time");
        let Some(News::Heavy { life: 7, bytes }) = heavy else { panic!("something else was told") };
        assert!((30 << 20..200 << 20).contains(&bytes), "{bytes}");
        sampling.abort();
        assert_eq!(taken(&[info], 4 << 30), 0, "below the limit nothing but resident sizes is read");
        assert!(sample(7, Vec::new(), limits(1), news.clone()).is_none());
        assert!(sample(7, vec![child.info().clone()], limits(0), news).is_none());
        child.kill();
        child.terminate(Duration::ZERO).await;
    }
}
