use serde_json::{Value, json};

use super::*;

fn parse(value: Value) -> Result<JsSettings, FieldErrors> {
    JsSettings::parse(&value.to_string())
}

fn paths(value: Value) -> Vec<String> {
    parse(value).expect_err("wrong settings").0.into_iter().map(|e| e.path).collect()
}

/// M13
#[test]
fn the_fingerprinting_collection_is_openwpms() {
    let settings = JsSettings::default();
    let names: Vec<_> = settings.targets().iter().map(|t| t.instrumented_name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ScriptProcessorNode",
            "GainNode",
            "AnalyserNode",
            "OscillatorNode",
            "OfflineAudioContext",
            "AudioContext",
            "RTCPeerConnection",
            "HTMLCanvasElement",
            "Storage",
            "window.navigator",
            "CanvasRenderingContext2D",
            "window",
            "window.document",
            "window.screen",
        ]
    );
    let clean = settings.to_json();
    assert_eq!(
        clean[8],
        json!({
            "object": "window['Storage'].prototype",
            "instrumentedName": "Storage",
            "logSettings": {
                "propertiesToInstrument": [],
                "nonExistingPropertiesToInstrument": [],
                "excludedProperties": [],
                "logCallStack": false,
                "logFunctionsAsStrings": false,
                "logFunctionGets": false,
                "preventSets": false,
                "recursive": false,
                "depth": 5,
            },
        })
    );
    assert_eq!(clean[12]["logSettings"]["propertiesToInstrument"], json!(["cookie", "referrer"]));
    let with_stacks =
        clean.as_array().map(|all| all.iter().filter(|t| t["logSettings"]["logCallStack"] == true));
    assert_eq!(with_stacks.map(Iterator::count), Some(1));
    assert_eq!(clean[10]["logSettings"]["excludedProperties"].as_array().map(Vec::len), Some(12));
    assert!(settings.targets().iter().all(|target| !target.required));
    assert_eq!(settings, JsSettings::parse(DEFAULT_JS_SETTINGS).expect("right"));
}

#[test]
fn collections_hold_apis_only_and_go_together() {
    for collection in COLLECTIONS {
        let settings = parse(json!([collection.name])).expect(collection.name);
        assert_eq!(
            settings.targets().len(),
            collection.entries.len(),
            "{}: an object twice",
            collection.name
        );
    }
    let both = parse(json!(["collection_fingerprinting", "collection_extended"])).expect("no conflict");
    assert_eq!(both.targets().len(), COLLECTIONS[1].entries.len());
}

/// M13
#[test]
fn shorthands_expand() {
    let settings = parse(json!([
        "XMLHttpRequest",
        "window.foo['a-b'].prototype",
        { "window": ["fetch", "fetch"] },
        { "window.document": { "logCallStack": true, "propertiesToInstrument": null, "depth": 2.0 } },
    ]));
    let settings = settings.expect("right");
    let [xhr, path, window, document] = settings.targets() else { panic!("{settings:?}") };
    assert_eq!(xhr.object, "window['XMLHttpRequest'].prototype");
    assert_eq!((xhr.path.join("/").as_str(), xhr.required), ("XMLHttpRequest/prototype", true));
    assert_eq!(xhr.log_settings, LogSettings::default());
    assert_eq!(path.path.join("/"), "foo/a-b/prototype");
    assert_eq!(
        (path.object.as_str(), &path.object),
        ("window.foo['a-b'].prototype", &path.instrumented_name)
    );
    assert_eq!(window.log_settings.properties_to_instrument, Some(vec!["fetch".to_owned()]));
    assert_eq!(document.log_settings.properties_to_instrument, None);
    assert!(document.log_settings.log_call_stack && document.log_settings.depth == 2);
    assert_eq!(settings.for_extension()[3]["path"], json!(["document"]));
}

/// M13
#[test]
fn items_of_one_object_are_merged() {
    let settings = parse(json!([
        { "window": ["a", "b"] },
        { "Storage": ["getItem"] },
        { "window": { "propertiesToInstrument": ["b", "c"], "excludedProperties": ["x"] } },
        "collection_fingerprinting",
    ]));
    let settings = settings.expect("right");
    let window = &settings.targets()[0].log_settings;
    let all = ["a", "b", "c", "name", "localStorage", "sessionStorage"].map(str::to_owned);
    assert_eq!(window.properties_to_instrument.as_deref(), Some(&all[..]));
    assert_eq!(window.excluded_properties, ["x"]);
    assert!(settings.targets()[0].required && !settings.targets()[2].required);
    // OpenWPM's rule, to the letter: all ([]) and a list are joined to the list.
    assert_eq!(settings.targets()[1].log_settings.properties_to_instrument, Some(vec!["getItem".to_owned()]));
}

/// M13, M21
#[test]
fn every_wrong_place_is_named_at_once() {
    let wrong = json!([
        "collection_nonsense",
        7,
        { "window": { "depth": -1, "logCallStacks": true, "recursive": "yes", "excludedProperties": null } },
        { "a": [], "b": [] },
        { "window.document": ["cookie", 5, ""] },
        "not an api",
        { "Storage": { "propertiesToInstrument": ["getItem"], "excludedProperties": ["getItem"] } },
        { "window.screen": 3 },
        "window..x",
    ]);
    assert_eq!(
        paths(wrong),
        [
            "[0]",
            "[1]",
            "[2].window.logSettings.depth",
            "[2].window.logSettings.excludedProperties",
            "[2].window.logSettings.logCallStacks",
            "[2].window.logSettings.recursive",
            "[3]",
            "[4].window.document.logSettings.propertiesToInstrument[1]",
            "[4].window.document.logSettings.propertiesToInstrument[2]",
            "[5]",
            "[6].Storage.logSettings.excludedProperties",
            "[7].window.screen",
            "[8]",
        ]
    );
    assert_eq!(paths(json!({})), [""]);
    assert!(JsSettings::parse("[").is_err());
    assert!(JsSettings::parse(&" ".repeat(MAX_TEXT + 1)).is_ok(), "blank is the default");
    assert!(JsSettings::parse(&format!("[{}]", " ".repeat(MAX_TEXT))).is_err());
}

/// M13
#[test]
fn merges_that_conflict_name_both_places() {
    let errors = parse(json!([
        "collection_fingerprinting",
        { "window.document": { "logCallStack": false, "recursive": true } },
        { "window": { "propertiesToInstrument": null } },
        "window.Storage.prototype",
        { "window.navigator": { "propertiesToInstrument": ["x"] } },
        { "window.navigator": { "excludedProperties": ["x"] } },
    ]));
    let errors = errors.expect_err("conflicts").0;
    let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "[1].window.document.logSettings.logCallStack",
            "[1].window.document.logSettings.recursive",
            "[2].window.logSettings.propertiesToInstrument",
            "[3]",
            "[5].window.navigator.logSettings",
        ]
    );
    assert!(errors[0].message.contains("[0] (collection_fingerprinting)"), "{}", errors[0].message);
    assert!(errors[3].message.contains(r#""window.Storage.prototype""#), "{}", errors[3].message);
}
