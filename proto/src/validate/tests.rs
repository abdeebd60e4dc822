use super::*;
use crate::visit::v1::{GetCommand, ScreenshotCommand, SleepCommand};

fn step(step: Step) -> Command {
    Command { step: Some(step), ..Default::default() }
}

/// M21: invalid arguments are refused all at once, with field paths.
#[test]
fn all_wrong_fields_are_named_at_once() {
    let sequence = CommandSequence {
        url: "ftp://example.org".into(),
        commands: vec![
            step(Step::Screenshot(ScreenshotCommand {
                suffix: "../x".into(),
                quality: 101,
                ..Default::default()
            })),
            step(Step::Get(GetCommand { url: "javascript:alert(1)".into(), ..Default::default() })),
            step(Step::Sleep(SleepCommand { duration: None })),
            Command::default(),
        ],
    };
    let paths: Vec<String> = validate_sequence(&sequence, "sequence")
        .expect_err("refused")
        .0
        .into_iter()
        .map(|e| e.path)
        .collect();
    assert_eq!(
        paths,
        [
            "sequence.url",
            "sequence.commands[0].screenshot",
            "sequence.commands[0].screenshot.suffix",
            "sequence.commands[0].screenshot.quality",
            "sequence.commands[1].get.url",
            "sequence.commands[2].sleep.duration",
            "sequence.commands[3]",
        ]
    );
}

/// M21: so are the commands that act on a page.
#[test]
fn interactions_are_checked_field_by_field() {
    use crate::visit::v1::{
        AssertCommand, ClickCommand, EvaluateCommand, ExtractCommand, ExtractField, PressCommand, Target,
        WaitForCommand,
    };
    let click = ClickCommand {
        target: Some(Target { selector: "a >>> ".into(), ..Target::default() }),
        count: 4,
        modifiers: vec![0],
        ..ClickCommand::default()
    };
    let field = ExtractField { name: "a".into(), key: "href".into(), ..ExtractField::default() };
    let steps = vec![
        Step::Get(GetCommand::default()),
        Step::Click(click),
        Step::Press(PressCommand { keys: "Return".into(), ..PressCommand::default() }),
        Step::WaitFor(WaitForCommand::default()),
        Step::Evaluate(EvaluateCommand::default()),
        Step::Extract(ExtractCommand { fields: vec![field] }),
        Step::Assert(AssertCommand::default()),
    ];
    let mut errors = FieldErrors::default();
    let commands: Vec<Command> = steps.into_iter().map(step).collect();
    validate_commands(&commands, "c", true, &mut errors);
    let paths: Vec<String> = errors.0.into_iter().map(|e| e.path).collect();
    assert_eq!(
        paths,
        [
            "c[1].click.target.selector",
            "c[1].click.count",
            "c[1].click.modifiers[0]",
            "c[2].press.keys",
            "c[3].wait_for",
            "c[4].evaluate.expression",
            "c[5].extract.fields[0].target",
            "c[5].extract.fields[0].key",
            "c[6].assert",
        ]
    );
    let mut errors = FieldErrors::default();
    let lone = Step::Assert(AssertCommand { check: None });
    validate_commands(&[step(lone)], "c", true, &mut errors);
    assert!(errors.0[0].message.contains("no page"), "{errors}");
}

#[test]
fn urls_and_bare_hosts_are_told_from_other_schemes() {
    for fine in [
        "http://a.b",
        "HTTPS://example.org/x?y#z",
        "example.org",
        "localhost:8080/x",
        "127.0.0.1:80",
        "user@example.org",
        "http://[::1]:8080/",
    ] {
        assert_eq!(validate_url(fine), Ok(()), "{fine}");
    }
    for wrong in
        ["", "data:text/html,x", "file:///etc/passwd", "chrome://gpu", "http://", "a b.org", "http://a\nb"]
    {
        assert!(validate_url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_sequence_without_commands_becomes_one_get() {
    let checked =
        DomainSequence::try_from(CommandSequence { url: "a.org".into(), commands: vec![] }).expect("fine");
    assert_eq!(checked.commands.iter().map(Command::name).collect::<Vec<_>>(), ["get"]);
}

/// I3, M21
#[test]
fn uses_are_compared_on_chromium_where_calls_are_recorded() {
    let wrong = |kind: BrowserKind, javascript: bool, isolation: Isolation| {
        let browser =
            BrowserSpec { kind: kind.into(), isolation: isolation.into(), ..BrowserSpec::default() };
        let instruments = Instruments { javascript, feature_use_check: true, ..Instruments::default() };
        let mut errors = FieldErrors::default();
        validate_setup(Some(&browser), Some(&instruments), None, &mut errors);
        errors.0.into_iter().map(|error| error.path).collect::<Vec<_>>()
    };
    let own = Isolation::Process;
    assert_eq!(wrong(BrowserKind::Unspecified, true, own), Vec::<String>::new());
    assert_eq!(wrong(BrowserKind::Chromium, true, own), Vec::<String>::new());
    assert_eq!(wrong(BrowserKind::Chromium, true, Isolation::Context), ["instruments.feature_use_check"]);
    assert_eq!(wrong(BrowserKind::Chromium, false, own), ["instruments.feature_use_check"]);
    assert_eq!(wrong(BrowserKind::Firefox, true, own), ["instruments.feature_use_check"]);
}

/// The paths of what is wrong with one command after a get.
fn wrong_paths(steps: Vec<Step>) -> Vec<String> {
    let mut errors = FieldErrors::default();
    let all: Vec<Command> =
        std::iter::once(Step::Get(GetCommand::default())).chain(steps).map(step).collect();
    validate_commands(&all, "c", true, &mut errors);
    errors.0.into_iter().map(|e| e.path).collect()
}

/// M21: cookies and headers.
#[test]
fn cookies_and_headers_are_checked_field_by_field() {
    use crate::visit::v1::{
        Cookie, CookiePartition, GetCookiesCommand, Header, SameSite, SetCookiesCommand, SetHeadersCommand,
    };
    let fine = Cookie { name: "n".into(), domain: ".a.test".into(), ..Cookie::default() };
    let wrong = Cookie {
        name: "a=b".into(),
        value: "x;y".into(),
        domain: "a test".into(),
        path: "x".into(),
        same_site: SameSite::None.into(),
        partition: Some(CookiePartition { top_level_site: "a.test/x".into(), ..CookiePartition::default() }),
        expires: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        ..Cookie::default()
    };
    let long = Cookie { value: "x".repeat(4096), ..fine.clone() };
    let of_host = Cookie { name: "__Host-n".into(), domain: ".a.test".into(), ..Cookie::default() };
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let headers = vec![
        header("X-A", "1"),
        header("x-a", "2"),
        header("Host", "a"),
        header("Proxy-Authorization", "a"),
        header("a b", "1"),
        header("X-B", "1\r\nX-C: 2"),
        header("X-D", ""),
    ];
    let paths = wrong_paths(vec![
        Step::SetCookies(SetCookiesCommand { cookies: vec![fine, wrong, long, of_host] }),
        Step::SetCookies(SetCookiesCommand::default()),
        Step::GetCookies(GetCookiesCommand { domain: "..a".into() }),
        Step::SetHeaders(SetHeadersCommand { headers }),
    ]);
    let cookie = "c[1].set_cookies.cookies[1]";
    let expected = [
        &format!("{cookie}.name"),
        &format!("{cookie}.value"),
        &format!("{cookie}.domain"),
        &format!("{cookie}.path"),
        &format!("{cookie}.secure"),
        &format!("{cookie}.secure"),
        &format!("{cookie}.partition.top_level_site"),
        &format!("{cookie}.expires"),
        "c[1].set_cookies.cookies[2]",
        "c[1].set_cookies.cookies[3].name",
        "c[1].set_cookies.cookies[3].secure",
        "c[2].set_cookies.cookies",
        "c[3].get_cookies.domain",
        "c[4].set_headers.headers[1].name",
        "c[4].set_headers.headers[2].name",
        "c[4].set_headers.headers[3].name",
        "c[4].set_headers.headers[4].name",
        "c[4].set_headers.headers[5].value",
        "c[4].set_headers.headers[6].value",
    ];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(paths, expected);
    let lone = Step::SetHeaders(SetHeadersCommand::default());
    let mut errors = FieldErrors::default();
    validate_commands(&[step(lone)], "c", true, &mut errors);
    assert_eq!(errors.to_string(), "", "no page need be loaded for them");
}

/// M20, M21: documents and pictures.
#[test]
fn documents_and_pictures_are_checked_field_by_field() {
    use crate::visit::v1::{
        Clip, DumpPageSourceCommand, Margins, MhtmlCommand, PaperFormat, PaperSize, PdfCommand, Target,
    };
    let clip = Clip { x: -1.0, y: f64::NAN, width: 0.0, height: 20_000.0 };
    let shot = ScreenshotCommand {
        full_page: true,
        element: Some(Target::default()),
        clip: Some(clip),
        ..ScreenshotCommand::default()
    };
    let both = PdfCommand {
        paper: PaperFormat::A4.into(),
        paper_size: Some(PaperSize { width_mm: 5.0, height_mm: 300.0 }),
        scale: 3.0,
        page_ranges: "3-1".into(),
        ..PdfCommand::default()
    };
    let wide = Margins { left_mm: 200.0, right_mm: 200.0, ..Margins::default() };
    let no_room = PdfCommand { margins: Some(wide), ..PdfCommand::default() };
    let depth = DumpPageSourceCommand { max_depth: 30, ..DumpPageSourceCommand::default() };
    let paths = wrong_paths(vec![
        Step::Screenshot(shot),
        Step::Pdf(both),
        Step::Pdf(no_room),
        Step::Mhtml(MhtmlCommand { suffix: "/".into() }),
        Step::DumpPageSource(depth),
    ]);
    let expected = [
        "c[1].screenshot",
        "c[1].screenshot.element.selector",
        "c[1].screenshot.clip.x",
        "c[1].screenshot.clip.y",
        "c[1].screenshot.clip.width",
        "c[1].screenshot.clip.height",
        "c[2].pdf.paper_size",
        "c[2].pdf.paper_size.width_mm",
        "c[2].pdf.scale",
        "c[2].pdf.page_ranges",
        "c[3].pdf.margins",
        "c[4].mhtml.suffix",
        "c[5].dump_page_source.max_depth",
        "c[5].dump_page_source.max_depth",
    ];
    assert_eq!(paths, expected);
    let mut errors = FieldErrors::default();
    let lone = [Step::Pdf(PdfCommand::default()), Step::Mhtml(MhtmlCommand::default())].map(step);
    validate_commands(&lone, "c", true, &mut errors);
    assert_eq!(errors.0.len(), 2, "both need a page: {errors}");
}

/// M24, M21: the time of a load and the files of an upload.
#[test]
fn times_of_loads_and_files_are_checked_field_by_field() {
    use crate::visit::v1::{
        BrowseCommand, LoadPolicy, Target, UploadCommand, UploadFile, WaitForCommand, upload_file::Source,
        wait_for_command::Condition,
    };
    let second = prost_types::Duration { seconds: 1, nanos: 0 };
    let policy = LoadPolicy::Time.into();
    let file = |name: &str, source| UploadFile { name: name.into(), source };
    let target = Some(Target { selector: "input".into(), ..Target::default() });
    let files = vec![
        file("../x", Some(Source::Content(vec![0; (1 << 20) + 1].into()))),
        file("..", Some(Source::Blob("x".into()))),
        file("y", None),
    ];
    let load = |load: LoadPolicy, load_time| {
        Step::WaitFor(WaitForCommand { condition: Some(Condition::Load(load.into())), load_time })
    };
    let paths = wrong_paths(vec![
        Step::Get(GetCommand { load_policy: policy, ..GetCommand::default() }),
        Step::Get(GetCommand { load_time: Some(second), ..GetCommand::default() }),
        Step::Browse(BrowseCommand { load_policy: policy, ..BrowseCommand::default() }),
        load(LoadPolicy::Time, None),
        load(LoadPolicy::Load, Some(second)),
        load(LoadPolicy::Time, Some(second)),
        Step::Upload(UploadCommand { target, files }),
        Step::Upload(UploadCommand::default()),
    ]);
    let expected = [
        "c[1].get.load_time",
        "c[2].get.load_time",
        "c[3].browse.load_time",
        "c[4].wait_for.load_time",
        "c[5].wait_for.load_time",
        "c[7].upload.files[0].name",
        "c[7].upload.files[1].name",
        "c[7].upload.files[1].blob",
        "c[7].upload.files[2]",
        "c[7].upload.files",
        "c[8].upload.target",
    ];
    assert_eq!(paths, expected);
}

/// M21: the bounds of recordings and explorations; starts and stops take turns.
#[test]
fn videos_and_explorations_are_checked_field_by_field() {
    use crate::visit::v1::{
        ExploreCommand, HarCommand, RecordVideoCommand, StartVideo, StopVideo, record_video_command::Action,
    };
    let video = |action| Step::RecordVideo(RecordVideoCommand { action });
    let stop = |suffix: &str| video(Some(Action::Stop(StopVideo { suffix: suffix.into() })));
    let start = |start| video(Some(Action::Start(start)));
    let long = Some(prost_types::Duration { seconds: 3601, nanos: 0 });
    let wrong = StartVideo {
        max_width: 1,
        max_height: 2161,
        quality: 101,
        max_fps: 31,
        max_duration: long,
        max_bytes: 1,
    };
    let paths = wrong_paths(vec![
        stop("a b"),
        start(wrong),
        start(StartVideo::default()),
        video(None),
        stop(""),
        Step::Explore(ExploreCommand {
            max_clicks: 101,
            max_depth: 101,
            max_runtime: long,
            blocked_words: vec!["--".into(), "buy".into()],
            ..ExploreCommand::default()
        }),
        Step::Har(HarCommand { suffix: "/".into() }),
    ]);
    let expected = [
        "c[1].record_video",
        "c[3].record_video",
        "c[1].record_video.stop.suffix",
        "c[2].record_video.start.max_width",
        "c[2].record_video.start.max_height",
        "c[2].record_video.start.quality",
        "c[2].record_video.start.max_fps",
        "c[2].record_video.start.max_duration",
        "c[2].record_video.start.max_bytes",
        "c[4].record_video",
        "c[6].explore.max_clicks",
        "c[6].explore.max_depth",
        "c[6].explore.max_runtime",
        "c[6].explore.blocked_words[0]",
        "c[7].har.suffix",
    ];
    assert_eq!(paths, expected);
}
