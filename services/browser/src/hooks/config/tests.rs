use std::path::PathBuf;

use super::super::schema::Schema;
use super::*;

fn given(pairs: &[(&str, &str)]) -> Given {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn plugin(name: &str, config: &str) -> Plugin {
    Plugin {
        name: name.into(),
        dir: PathBuf::new(),
        schema: Schema::parse(config).unwrap(),
        hooks: Vec::new(),
    }
}

fn found(plugins: &[(&str, &str)]) -> Found {
    let plugins = plugins.iter().map(|(name, config)| plugin(name, config)).collect();
    Found { plugins, refused: Vec::new() }
}

const WGET: &str = r#"{"properties":{
    "WGET_TIMEOUT":{"type":"integer","default":60,"minimum":5,"x-fallback":"TIMEOUT","x-aliases":["FETCH_TIMEOUT"]},
    "WGET_ARGS":{"type":"array","default":["-q"]},
    "WGET_ENABLED":{"type":"boolean","default":true,"x-aliases":["SAVE_WGET","USE_WGET"]},
    "WGET_MODE":{"type":"string","enum":["a","b"],"default":"a"},
    "WGET_BINARY":{"type":"string","default":"wget"}}}"#;
const BASE: &str = r#"{"properties":{"TIMEOUT":{"type":"integer","default":30}}}"#;

fn wget(pairs: &[(&str, &str)]) -> Result<Values, ConfigError> {
    let found = found(&[("base", BASE), ("wget", WGET)]);
    settings(&found, found.plugin("wget").unwrap(), &given(pairs))
}

/// 2.3: name, alias, fallback as given, fallback's value, default.
#[test]
fn a_value_comes_from_the_first_place_that_has_one() {
    let timeout = |pairs: &[(&str, &str)]| wget(pairs).unwrap()["WGET_TIMEOUT"].clone();
    assert_eq!(timeout(&[("WGET_TIMEOUT", "7"), ("FETCH_TIMEOUT", "8"), ("TIMEOUT", "9")]), 7);
    assert_eq!(timeout(&[("FETCH_TIMEOUT", "8"), ("TIMEOUT", "9")]), 8);
    assert_eq!(timeout(&[("TIMEOUT", "9")]), 9);
    assert_eq!(timeout(&[]), 30);
    let found = found(&[("wget", WGET)]);
    assert_eq!(settings(&found, &found.plugins[0], &given(&[])).unwrap()["WGET_TIMEOUT"], 60);
}

#[test]
fn values_have_their_types() {
    let values = wget(&[("SAVE_WGET", "no"), ("WGET_ARGS", "a, b")]).unwrap();
    assert_eq!(values["WGET_ENABLED"], false);
    assert_eq!(values["WGET_ARGS"], serde_json::json!(["a", "b"]));
    assert_eq!(wget(&[("WGET_ARGS", r#"["a,b"]"#)]).unwrap()["WGET_ARGS"], serde_json::json!(["a,b"]));
    for (key, value, says) in [
        ("WGET_TIMEOUT", "soon", "not an integer"),
        ("WGET_TIMEOUT", "4", "less than 5"),
        ("WGET_ENABLED", "maybe", "yes, on"),
        ("WGET_MODE", "c", "not one of"),
        ("WGET_ARGS", "[", "not a list"),
    ] {
        let error = wget(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(key), "{error}");
    }
}

#[test]
fn placeholders_are_replaced_until_nothing_changes() {
    let schema = Schema::parse(
        r#"{"properties":{"A":{"type":"string","default":"{B}/a"},"B":{"type":"string","default":"{C}/b"},
            "J":{"type":"string","default":"{not} {}"}}}"#,
    )
    .unwrap();
    let values = resolve([&schema.properties], &given(&[("C", "/c")])).unwrap();
    assert_eq!((plain(&values["A"]), plain(&values["J"])), ("/c/b/a".into(), "{not} {}".into()));
    let circle = given(&[("B", "{A}x")]);
    assert!(matches!(resolve([&schema.properties], &circle), Err(ConfigError::Placeholders { .. })));
}

#[test]
fn required_plugins_come_along_and_their_absence_disables() {
    let found = found(&[
        ("a", r#"{"required_plugins":["b"]}"#),
        ("b", r#"{"required_plugins":["c"],"properties":{"B_ENABLED":{"type":"boolean","default":true}}}"#),
        ("c", "{}"),
        ("d", r#"{"required_plugins":["gone"]}"#),
        ("e", r#"{"x-runtimes":["archivebox"]}"#),
    ]);
    let answers = select(&found, &["a".into()], &given(&[]), "abx-dl").unwrap();
    let yes: Vec<_> = answers.iter().filter(|(_, e)| **e == Enabled::Yes).map(|(n, _)| n.as_str()).collect();
    assert_eq!(yes, ["a", "b", "c"]);
    let answers = select(&found, &[], &given(&[("B_ENABLED", "false")]), "abx-dl").unwrap();
    assert_eq!(answers["a"], Enabled::No("requires b: B_ENABLED is false".into()));
    assert_eq!(answers["b"], Enabled::No("B_ENABLED is false".into()));
    assert_eq!(answers["c"], Enabled::Yes);
    assert!(matches!(&answers["d"], Enabled::No(why) if why.contains("gone")));
    assert!(matches!(&answers["e"], Enabled::No(why) if why.contains("archivebox")));
    // A switch that no schema names still holds.
    let answers = select(&found, &[], &given(&[("C_ENABLED", "0")]), "abx-dl").unwrap();
    assert_eq!(answers["a"], Enabled::No("requires c: C_ENABLED is false".into()));
    assert!(matches!(select(&found, &["zzz".into()], &given(&[]), ""), Err(ConfigError::Unknown { .. })));
}

#[test]
fn a_circle_of_requirements_is_an_error() {
    let found = found(&[("a", r#"{"required_plugins":["b"]}"#), ("b", r#"{"required_plugins":["a"]}"#)]);
    let circle = ConfigError::Cycle(vec!["a".into(), "b".into(), "a".into()]);
    assert_eq!(select(&found, &[], &given(&[]), ""), Err(circle));
}
