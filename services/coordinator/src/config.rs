//! The `[coordinator]` section.
use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
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
        }
    }
}
