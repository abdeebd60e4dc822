//! The words that stand for enum values in rows, on screens and in errors.
use crate::{
    browser::v1::BrowserEventKind,
    record::v1::Producer,
    visit::v1::{
        BrowserKind, Command, CommandStatus, FailureKind, Outcome, Phase, RetryAdvice, command::Step,
    },
};

/// Fingerprint of the failure of attempts that a slot did not serve, because too many of its browsers failed to start.
pub const BREAKER_FINGERPRINT: &str = "browser:breaker";

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
    /// started, crashed, closed, launch_failed, breaker_opened.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Started => "started",
            Self::Crashed => "crashed",
            Self::Closed => "closed",
            Self::LaunchFailed => "launch_failed",
            Self::BreakerOpened => "breaker_opened",
        }
    }
}

impl FailureKind {
    /// network, timeout, browser, instrument, storage, command, lost, cancelled, invalid, resources.
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
            Self::Resources => "resources",
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
    /// The names of all steps.
    pub const NAMES: &[&str] = &[
        "get",
        "browse",
        "screenshot",
        "dump_page_source",
        "sleep",
        "click",
        "hover",
        "type",
        "press",
        "select",
        "scroll",
        "wait_for",
        "evaluate",
        "extract",
        "assert",
        "run_hooks",
        "get_cookies",
        "set_cookies",
        "set_headers",
        "pdf",
        "mhtml",
        "upload",
        "download",
        "dump_profile",
        "har",
        "bot_mitigation",
        "record_video",
        "explore",
    ];

    /// The step's name, as `get`; "none" when no step is set.
    pub fn name(&self) -> &'static str {
        match &self.step {
            None => "none",
            Some(Step::Get(_)) => "get",
            Some(Step::Browse(_)) => "browse",
            Some(Step::Screenshot(_)) => "screenshot",
            Some(Step::DumpPageSource(_)) => "dump_page_source",
            Some(Step::Sleep(_)) => "sleep",
            Some(Step::Click(_)) => "click",
            Some(Step::Hover(_)) => "hover",
            Some(Step::Type(_)) => "type",
            Some(Step::Press(_)) => "press",
            Some(Step::Select(_)) => "select",
            Some(Step::Scroll(_)) => "scroll",
            Some(Step::WaitFor(_)) => "wait_for",
            Some(Step::Evaluate(_)) => "evaluate",
            Some(Step::Extract(_)) => "extract",
            Some(Step::Assert(_)) => "assert",
            Some(Step::RunHooks(_)) => "run_hooks",
            Some(Step::GetCookies(_)) => "get_cookies",
            Some(Step::SetCookies(_)) => "set_cookies",
            Some(Step::SetHeaders(_)) => "set_headers",
            Some(Step::Pdf(_)) => "pdf",
            Some(Step::Mhtml(_)) => "mhtml",
            Some(Step::Upload(_)) => "upload",
            Some(Step::Download(_)) => "download",
            Some(Step::BotMitigation(_)) => "bot_mitigation",
            Some(Step::DumpProfile(_)) => "dump_profile",
            Some(Step::Har(_)) => "har",
            Some(Step::RecordVideo(_)) => "record_video",
            Some(Step::Explore(_)) => "explore",
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
            Some(Step::Click(_)) => "ClickCommand",
            Some(Step::Hover(_)) => "HoverCommand",
            Some(Step::Type(_)) => "TypeCommand",
            Some(Step::Press(_)) => "PressCommand",
            Some(Step::Select(_)) => "SelectCommand",
            Some(Step::Scroll(_)) => "ScrollCommand",
            Some(Step::WaitFor(_)) => "WaitForCommand",
            Some(Step::Evaluate(_)) => "EvaluateCommand",
            Some(Step::Extract(_)) => "ExtractCommand",
            Some(Step::Assert(_)) => "AssertCommand",
            Some(Step::RunHooks(_)) => "RunHooksCommand",
            Some(Step::GetCookies(_)) => "GetCookiesCommand",
            Some(Step::SetCookies(_)) => "SetCookiesCommand",
            Some(Step::SetHeaders(_)) => "SetHeadersCommand",
            Some(Step::Pdf(_)) => "PdfCommand",
            Some(Step::Mhtml(_)) => "MhtmlCommand",
            Some(Step::Upload(_)) => "UploadCommand",
            Some(Step::Download(_)) => "DownloadCommand",
            Some(Step::BotMitigation(_)) => "BotMitigationCommand",
            Some(Step::DumpProfile(_)) => "DumpProfileCommand",
            Some(Step::Har(_)) => "HarCommand",
            Some(Step::RecordVideo(_)) => "RecordVideoCommand",
            Some(Step::Explore(_)) => "ExploreCommand",
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
