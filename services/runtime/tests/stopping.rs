//! Signals and panics of a whole process; alone in this file because they belong to the process.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helper functions

use std::time::Duration;

use sonde_runtime::signals::Shutdown;
use sonde_runtime::telemetry::{self, Format, Telemetry};
use tokio::time::timeout;

/// R14
#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    let shutdown = Shutdown::on_signals().unwrap();
    let kill = |signal| assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
    kill(libc::SIGTERM);
    timeout(Duration::from_secs(5), shutdown.drain.cancelled()).await.unwrap();
    assert!(!shutdown.immediate.is_cancelled());
    assert_eq!(shutdown.signal(), Some(libc::SIGTERM));
    kill(libc::SIGINT);
    timeout(Duration::from_secs(5), shutdown.immediate.cancelled()).await.unwrap();
    assert_eq!(shutdown.exit_code(), 130);
}

#[test]
fn logging_is_set_up_once() {
    let wrong = Telemetry { level: "sonde=loud".to_owned(), format: Format::Plain };
    assert!(telemetry::init(&wrong).unwrap_err().to_string().contains("sonde=loud"));
    let json = Telemetry { level: "info".to_owned(), format: Format::Json };
    assert!(telemetry::init(&json).unwrap());
    assert!(!telemetry::init(&Telemetry::default()).unwrap());
    assert!(std::thread::spawn(|| panic!("a logged panic")).join().is_err());
}
