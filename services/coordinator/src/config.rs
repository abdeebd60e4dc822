//! The `[coordinator]` section.
use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use sonde_proto::js_settings::{DEFAULT_JS_SETTINGS, JsSettings};
use sonde_runtime::endpoint::Endpoint;

/// What a coordinator needs to know. All of it has defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where CrawlService and FleetService are served.
    pub listen: Endpoint,
    /// Directory of `coordinator.sqlite`; made when missing; one coordinator at a time.
    pub data_dir: PathBuf,
    /// The storage-service.
    pub storage: Endpoint,
    /// The browser-services, each with as many slots as it says.
    pub browsers: Vec<Endpoint>,
    /// How long an attempt may run without word from the coordinator; extended at each third of it. 1 s to 10 min.
    #[serde(with = "sonde_runtime::config::duration")]
    pub lease: Duration,
    /// How long a stop waits for running visits; those that go on are left to be taken over at the next start.
    #[serde(with = "sonde_runtime::config::duration")]
    pub drain: Duration,
    /// Consecutive own-fault failures (browser, instrument) that pause a crawl; 0 means 2 for each slot plus 10.
    pub failure_limit: u32,
    /// Which JavaScript APIs are recorded where a crawl does not say, in the language of docs/js-settings.md: a list,
    /// or its JSON text, or the name of a collection.
    #[serde(deserialize_with = "javascript_settings")]
    pub javascript_settings: String,
}

/// Checks the settings; what is kept is their JSON text.
fn javascript_settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) if text.trim_start().starts_with('[') || text.is_empty() => text,
        serde_json::Value::String(name) => serde_json::json!([name]).to_string(),
        value => value.to_string(),
    };
    JsSettings::parse(&text).map_err(D::Error::custom)?;
    Ok(text)
}

impl Default for Config {
    fn default() -> Self {
        let tcp = |port| Endpoint::Tcp { host: "127.0.0.1".into(), port };
        Self {
            listen: tcp(7400),
            data_dir: PathBuf::from("sonde-data/coordinator"),
            storage: tcp(7401),
            browsers: vec![tcp(7402)],
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            failure_limit: 0,
            javascript_settings: DEFAULT_JS_SETTINGS.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sonde_runtime::config::{self, Override};

    use super::*;

    fn load(toml: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a directory for the file");
        let file = dir.path().join("sonde.toml");
        std::fs::write(&file, toml).expect("the file is written");
        let loaded = config::load::<Config>("coordinator", Some(&file), [], &[] as &[Override]);
        loaded.map(|config| config.value.javascript_settings).map_err(|e| e.to_string())
    }

    /// M13
    #[test]
    fn javascript_settings_are_read_as_lists_as_text_and_as_names() {
        let list = r#"
            [coordinator]
            javascript_settings = ["collection_extended", { "window.foo" = ["bar"] }, { "Baz" = { logCallStack = true, depth = 2 } }]
        "#;
        let read = load(list).expect("a list");
        let read: serde_json::Value = serde_json::from_str(&read).expect("JSON");
        assert_eq!(read[1], serde_json::json!({ "window.foo": ["bar"] }));
        assert_eq!(read[2]["Baz"], serde_json::json!({ "logCallStack": true, "depth": 2 }));
        let name = load("[coordinator]\njavascript_settings = 'collection_extended'");
        assert_eq!(name.as_deref(), Ok(r#"["collection_extended"]"#));
        let text = r#"[{"window":{"propertiesToInstrument":null}}]"#;
        assert_eq!(load(&format!("[coordinator]\njavascript_settings = '{text}'")).as_deref(), Ok(text));
        assert_eq!(load("").as_deref(), Ok(DEFAULT_JS_SETTINGS));
    }

    /// M13
    #[test]
    fn wrong_javascript_settings_are_refused_with_every_path() {
        let error = load(
            "[coordinator]\njavascript_settings = ['collection_x', { window = { depth = -1, deep = 1 } }]",
        );
        let error = error.expect_err("wrong settings");
        for path in [
            "coordinator.javascript_settings",
            "[0]",
            "[1].window.logSettings.depth",
            "[1].window.logSettings.deep",
        ] {
            assert!(error.contains(path), "{error}");
        }
    }
}
