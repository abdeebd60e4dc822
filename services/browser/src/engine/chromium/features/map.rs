//! Which feature is which symbol.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sonde_proto::js_settings::{JsSettings, LogSettings};

/// The reviewed map as it is checked in. Numbers of features are never given again (`web_feature.mojom` of Chromium).
const MAP: &str = include_str!("map.json");

/// A feature that the engine counts when this symbol is used, and never else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureUse {
    /// As in rows of `javascript`.
    pub symbol: String,
    /// `call`, `get` or `set`.
    pub operation: String,
    /// Blink's `WebFeature`.
    pub feature: u32,
}

/// The map, in its order.
pub fn feature_uses() -> &'static [FeatureUse] {
    static USES: LazyLock<Vec<FeatureUse>> =
        LazyLock::new(|| serde_json::from_str(MAP).expect("the map is a file of ours; a test reads it"));
    &USES
}

/// What inherits all that a name has and is not made itself: who asks for these all asks for it.
const HEIRS: &[(&str, &[&str])] = &[("BaseAudioContext", &["AudioContext", "OfflineAudioContext"])];

/// Those of symbols that the settings ask for.
pub fn checkable(settings: &JsSettings) -> Vec<&'static FeatureUse> {
    feature_uses().iter().filter(|used| is_asked(settings, &used.symbol)).collect()
}

/// Whether a use has a row: under its symbol, or that of an object which inherits the property and has a name of its own
/// in the settings.
pub(super) fn is_recorded(symbol: &str, recorded: &HashSet<String>) -> bool {
    let property = |symbol: &str| symbol.rsplit_once('.').map(|(_, property)| property.to_owned());
    let inherited = |other: &String| {
        property(other) == property(symbol) && !feature_uses().iter().any(|used| used.symbol == *other)
    };
    recorded.contains(symbol) || recorded.iter().any(inherited)
}

fn is_asked(settings: &JsSettings, symbol: &str) -> bool {
    let Some((name, property)) = symbol.rsplit_once('.') else { return false };
    let heirs = HEIRS.iter().find(|(of, _)| *of == name).map(|(_, heirs)| *heirs);
    is_named(settings, name, property)
        || heirs.is_some_and(|heirs| heirs.iter().all(|heir| is_named(settings, heir, property)))
}

fn is_named(settings: &JsSettings, name: &str, property: &str) -> bool {
    let asks = |log: &LogSettings| {
        let listed = log.properties_to_instrument.as_ref();
        let named = listed.is_some_and(|names| names.is_empty() || names.iter().any(|n| n == property));
        named && !log.excluded_properties.iter().any(|n| n == property)
    };
    settings.targets().iter().any(|target| target.instrumented_name == name && asks(&target.log_settings))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// I3
    #[test]
    fn the_map_is_sorted_and_names_every_feature_once() {
        let uses = feature_uses();
        assert!(uses.is_sorted(), "the file is not in the order of its tool");
        let features: BTreeSet<u32> = uses.iter().map(|used| used.feature).collect();
        assert_eq!(features.len(), uses.len());
    }

    /// I3: what is not recorded cannot be missed.
    #[test]
    fn only_symbols_of_the_settings_are_checked() {
        let asked = |text: &str, symbol: &str| is_asked(&JsSettings::parse(text).unwrap(), symbol);
        let dpr = "window.devicePixelRatio";
        assert!(asked(r#"["window.navigator"]"#, "window.navigator.vendor"));
        assert!(!asked(r#"["window.navigator"]"#, dpr));
        assert!(asked(r#"[{ "window": ["devicePixelRatio"] }]"#, dpr));
        assert!(!asked(r#"[{ "window": ["name"] }]"#, dpr));
        assert!(!asked(r#"[{ "window": { "excludedProperties": ["devicePixelRatio"] } }]"#, dpr));
        assert!(!asked(r#"[{ "window": { "propertiesToInstrument": null } }]"#, dpr));
        assert!(asked(r#"["AudioContext", "OfflineAudioContext"]"#, "BaseAudioContext.createGain"));
        assert!(!asked(r#"["AudioContext"]"#, "BaseAudioContext.createGain"));
        assert!(!checkable(&JsSettings::default()).is_empty());
    }

    /// I3: a use is recorded under the name of the object that it is made on.
    #[test]
    fn a_use_is_recorded_under_its_symbol_or_that_of_an_heir() {
        let recorded: HashSet<String> =
            ["AudioContext.createGain", "OffscreenCanvas.getContext"].map(str::to_owned).into();
        assert!(is_recorded("BaseAudioContext.createGain", &recorded));
        assert!(is_recorded("OffscreenCanvas.getContext", &recorded));
        assert!(!is_recorded("HTMLCanvasElement.getContext", &recorded));
        assert!(!is_recorded("BaseAudioContext.createOscillator", &recorded));
    }
}
