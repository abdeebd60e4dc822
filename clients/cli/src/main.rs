//! `sonde`: crawl, visit, supervise and ask, from one command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(code) = sonde_runtime::process::guard::take_over() {
        return code;
    }
    let args = match sonde_cli::args::Args::try_parse() {
        Ok(args) => args,
        Err(answer) => {
            let code = if answer.use_stderr() { sonde_cli::EXIT_INPUT } else { 0 };
            // Whoever closed our output does not want the answer.
            let _ = answer.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!(
                "sonde: the system refuses threads or file descriptors: {error}; raise the limits (ulimit -u, -n)"
            );
            return ExitCode::from(1);
        }
    };
    let code = runtime.block_on(sonde_cli::run(args));
    // Tasks that still hold a connection must not keep a finished command alive.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    ExitCode::from(code)
}
