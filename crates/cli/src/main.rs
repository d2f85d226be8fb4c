//! The `intended` binary: the only composition root. One file per verb under `cmd`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod archive;
mod args;
mod brought;
mod client;
mod cmd;
mod config;
mod confirm;
mod copied;
mod error;
mod kept;
mod logging;
mod notifier;
mod otlp;
mod output;
mod requests;
mod rewake;
mod scope;
mod server;
mod session;
mod siem;
mod when;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use intended_model::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack of the threads that decide: enough for any policy without making more for each decision.
const STACK: usize = 8 << 20;

fn main() -> std::process::ExitCode {
    let given: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let has = |flag: &str| given.iter().take_while(|a| *a != "--").any(|a| a == flag);
    let color = if has("--no-color") { ColorChoice::Never } else { ColorChoice::Auto };
    let command = || args::Cli::command().color(color);
    if has("--required-scope") && !has("--help") {
        // The command's other arguments need not be there for that.
        if let Ok(matches) = command().ignore_errors(true).try_get_matches_from(&given) {
            let format = matches.try_get_one("output").ok().flatten().copied().unwrap_or(args::Format::Table);
            return std::process::ExitCode::from(scope::show(format, &scope::named(&matches)) as u8);
        }
    }
    let parsed = command().try_get_matches_from(&given).and_then(|m| args::Cli::from_arg_matches(&m));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are not errors.
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            return std::process::ExitCode::from(code as u8);
        }
    };
    if cli.global.quiet {
        output::be_quiet();
    }
    if cli.global.no_color {
        output::no_colour();
    }
    // Ends last: what is said at the end is written before the process is gone.
    let _drained = logging::Drained;
    let (quiet, verbose) = (cli.global.quiet, cli.global.verbose);
    match cli.command {
        // How a server logs stands in its config file, which it reads first.
        args::Command::Serve(_) => {}
        args::Command::Dev(_) => {
            if let Err(error) = logging::install_queued(quiet, verbose, intended_telemetry::Format::Text, None) {
                output::complain(&error.to_string(), None);
                return std::process::ExitCode::from(error.exit() as u8);
            }
        }
        _ => logging::install(quiet, verbose),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime does not start: {error}");
            return std::process::ExitCode::from(ExitCode::Usage as u8);
        }
    };
    let code = runtime.block_on(cmd::run(cli)).unwrap_or_else(|error| {
        output::complain(&error.to_string(), error.hint().as_deref());
        error.exit()
    });
    let code = if code == ExitCode::Ok && output::lost() { ExitCode::Usage } else { code };
    std::process::ExitCode::from(code as u8)
}
