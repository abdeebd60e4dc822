//! How long commands may take when nobody says.

use std::time::Duration;

use crate::visit::v1::{
    Command, CrawlHooks, RecordVideoCommand, command::Step, record_video_command::Action,
    wait_for_command::Condition,
};

const DEFAULT_LINKS: u32 = 2;

fn span(value: Option<prost_types::Duration>) -> Duration {
    value.and_then(|d| Duration::try_from(d).ok()).unwrap_or_default()
}

impl Command {
    /// Its own timeout, or the default of its kind plus the stays it asks for.
    pub fn time(&self) -> Duration {
        let seconds = Duration::from_secs;
        let default = match &self.step {
            Some(Step::Get(get)) => seconds(60) + span(get.dwell) + span(get.load_time),
            Some(Step::Browse(browse)) => {
                let links = browse.num_links.unwrap_or(DEFAULT_LINKS);
                // Going back to the page is a load, too.
                let (stays, loads) = (links + 1, 2 * links + 1);
                seconds(60)
                    + seconds(30) * links
                    + span(browse.dwell) * stays
                    + span(browse.load_time) * loads
            }
            // Its timeout is not settable.
            Some(Step::Sleep(sleep)) => return span(sleep.duration) + seconds(5),
            Some(Step::Type(typed)) => {
                let characters = u32::try_from(typed.text.chars().count()).unwrap_or(u32::MAX);
                seconds(30) + span(typed.delay).saturating_mul(characters)
            }
            Some(Step::WaitFor(wait)) => match &wait.condition {
                Some(Condition::Time(time)) => seconds(30) + span(Some(*time)),
                _ => seconds(30) + span(wait.load_time),
            },
            Some(Step::Assert(_)) => seconds(5),
            Some(Step::BotMitigation(_)) => seconds(90),
            Some(Step::Download(_) | Step::DumpProfile(_)) => seconds(120),
            Some(Step::RecordVideo(RecordVideoCommand { action: Some(Action::Stop(_)) })) => seconds(120),
            Some(Step::Explore(explore)) => match explore.max_runtime {
                Some(_) => span(explore.max_runtime) + seconds(30),
                None => seconds(330),
            },
            Some(Step::RunHooks(_)) => seconds(300),
            _ => seconds(30),
        };
        self.timeout.and_then(|d| Duration::try_from(d).ok()).unwrap_or(default)
    }
}

impl CrawlHooks {
    /// How long a visit waits for those of the start.
    pub fn time(&self) -> Duration {
        self.timeout.and_then(|d| Duration::try_from(d).ok()).unwrap_or(Duration::from_secs(300))
    }
}
