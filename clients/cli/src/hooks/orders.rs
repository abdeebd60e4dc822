//! What the operator wants of a run: Ctrl-C, and words on standard input.

use std::io::BufRead as _;

use sonde_browser::hooks::runner::Control;
use tokio::sync::mpsc;

/// Sends orders for as long as the process lives. Ctrl-C ends the run in order: no further hook starts, and those in the
/// background have their time.
pub fn listen(orders: mpsc::Sender<Control>, from_input: bool) {
    if from_input {
        let orders = orders.clone();
        // A thread of its own: a read of standard input cannot be given up.
        std::thread::spawn(move || read(&orders));
    }
    tokio::spawn(async move {
        match tokio::signal::ctrl_c().await {
            Ok(()) => {
                if orders.send(Control::Abort).await.is_ok() {
                    eprintln!("sonde: ending the hooks");
                }
            }
            Err(error) => eprintln!("sonde: Ctrl-C cannot be heard: {error}"),
        }
        // Kept to the end: without a sender nobody could resume a run that is paused.
        orders.closed().await;
    });
}

fn read(orders: &mpsc::Sender<Control>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let order = match line.trim() {
            "" => continue,
            "pause" => Control::Pause,
            "resume" => Control::Resume,
            "skip" => Control::Skip,
            "retry" => Control::Retry,
            "abort" => Control::Abort,
            other => {
                eprintln!("sonde: {other:?} is no order; give pause, resume, skip, retry or abort");
                continue;
            }
        };
        if orders.blocking_send(order).is_err() {
            return;
        }
    }
}
