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
