//! The words that stand for enum values in rows, on screens and in errors.
use crate::{
    browser::v1::BrowserEventKind,
    record::v1::Producer,
    visit::v1::{
        BrowserKind, Command, CommandStatus, FailureKind, Outcome, Phase, RetryAdvice, command::Step,
    },
};

impl Outcome {
    /// ok, neterror, timeout, error, crashed, blocked, cancelled, poisoned; "unspecified" while not ended.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Ok => "ok",
            Self::Neterror => "neterror",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Crashed => "crashed",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Poisoned => "poisoned",
        }
    }
}

impl CommandStatus {
    /// OpenWPM's words: ok, error, neterror, timeout, critical.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Neterror => "neterror",
            Self::Timeout => "timeout",
            Self::Critical => "critical",
        }
    }
}

impl Producer {
    /// extension, devtools or service.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Extension => "extension",
            Self::Devtools => "devtools",
            Self::Service => "service",
        }
    }
}

impl BrowserKind {
    /// chromium or firefox.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified | Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }
}

impl BrowserEventKind {
    /// started, crashed, closed, launch_failed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Started => "started",
            Self::Crashed => "crashed",
            Self::Closed => "closed",
            Self::LaunchFailed => "launch_failed",
        }
    }
}

impl FailureKind {
    /// network, timeout, browser, instrument, storage, command, lost, cancelled, invalid.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Browser => "browser",
            Self::Instrument => "instrument",
            Self::Storage => "storage",
            Self::Command => "command",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Invalid => "invalid",
        }
    }
}

impl RetryAdvice {
    /// never, same, fresh_browser, other_proxy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified | Self::Never => "never",
            Self::Same => "same",
            Self::FreshBrowser => "fresh_browser",
            Self::OtherProxy => "other_proxy",
        }
    }
}

impl Command {
    /// The step's name, as `get`; "none" when no step is set.
    pub fn name(&self) -> &'static str {
        match &self.step {
            None => "none",
            Some(Step::Get(_)) => "get",
            Some(Step::Browse(_)) => "browse",
            Some(Step::Screenshot(_)) => "screenshot",
            Some(Step::DumpPageSource(_)) => "dump_page_source",
            Some(Step::Sleep(_)) => "sleep",
        }
    }

    /// The name in crawl_history, OpenWPM's style: GetCommand, ...
    pub fn class_name(&self) -> &'static str {
        match &self.step {
            None => "NoCommand",
            Some(Step::Get(_)) => "GetCommand",
            Some(Step::Browse(_)) => "BrowseCommand",
            Some(Step::Screenshot(_)) => "ScreenshotCommand",
            Some(Step::DumpPageSource(_)) => "DumpPageSourceCommand",
            Some(Step::Sleep(_)) => "SleepCommand",
        }
    }
}

impl Phase {
    /// As people see it: `2/4 get: waiting for load`.
    pub fn line(&self) -> String {
        match self.detail.as_str() {
            "" => format!("{}/{} {}", self.index, self.count, self.name),
            detail => format!("{}/{} {}: {detail}", self.index, self.count, self.name),
        }
    }
}
