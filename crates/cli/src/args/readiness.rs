//! `readiness …`

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Readiness {
    /// Measure: is everything reached, do the keys unseal, does the audit keep up, how fast does it decide and sign.
    Check(Check),
    /// The checks that were made, newest first.
    #[command(
        before_help = "Examples:\n  intended readiness history\n  intended readiness history --limit 100 -o json"
    )]
    History {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Go on where a list was cut off.
        #[arg(long)]
        cursor: Option<String>,
    },
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended readiness check\n  intended readiness check --verbose\n  intended readiness check -e production --strict\n  intended readiness check --threshold policy_p99_micros=1000,5000",
    after_help = "It is read-only for live traffic: nothing it decides or signs is recorded, counted or good for anything.\nWith -e it is about that environment alone.\nExit codes: 0 pass, or warnings without --strict; 5 the server cannot be reached; 6 a measurement failed, or warned with --strict"
)]
pub struct Check {
    /// A warning fails too: exit code 6.
    #[arg(long)]
    pub strict: bool,
    /// A stricter threshold for this check: NAME=WARN,FAIL, as in the server's config file. Can be repeated.
    #[arg(long = "threshold", value_name = "NAME=WARN,FAIL", value_parser = threshold)]
    pub thresholds: Vec<(String, u64, u64)>,
}

fn threshold(text: &str) -> Result<(String, u64, u64), String> {
    let wrong = || "write it like policy_p99_micros=1000,5000".to_owned();
    let (name, bounds) = text.split_once('=').ok_or_else(wrong)?;
    let (warn, fail) = bounds.split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    Ok((name.trim().to_owned(), number(warn)?, number(fail)?))
}
