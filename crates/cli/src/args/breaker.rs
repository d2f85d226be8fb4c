//! Arguments of `breaker`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Breaker {
    /// How each stands: what it watches, what it measures against which thresholds, when it may close,
    /// who holds it and why.
    #[command(before_help = "Examples:\n  intended breaker list\n  intended breaker list -e production -o json")]
    List,
    /// One breaker, with everything that it watches.
    #[command(before_help = "Examples:\n  intended breaker show production.agents")]
    Show { breaker: String },
    /// Set what opens a breaker. It starts closed: that also closes one that has opened.
    #[command(
        before_help = "Examples:\n  intended breaker set production.agents -e production --error-rate 300 --denial-rate 800\n  intended breaker set refunds -e production --tool 'stripe.*' --spend amount=500000 --velocity 100 --window-secs 3600\n  intended breaker set refunds -e production --file refunds.json\n  intended breaker set production.connectors --off"
    )]
    Set(Set),
    /// Hold what a breaker watches, or what is named, until a person releases it. Covers what a halt of the
    /// same words covers.
    #[command(
        before_help = "Examples:\n  intended breaker hold refunds --reason 'wrong amounts'\n  intended breaker hold stripe-down -e production --connector stripe --reason 'their incident 4711'"
    )]
    Hold {
        /// A breaker, or a new name for the hold.
        breaker: String,
        #[command(flatten)]
        on: On,
        #[arg(long)]
        reason: String,
    },
    /// Release what is held: a person does, signed in or with a key of their own. What has opened by itself
    /// stays as it is.
    #[command(before_help = "Examples:\n  intended breaker release refunds --reason fixed")]
    Release {
        /// The hold's name.
        breaker: String,
        #[arg(long)]
        reason: String,
    },
}

/// What is watched or held.
#[derive(Args, Default)]
#[group(multiple = false)]
pub struct On {
    /// An agent; without a name each agent by itself.
    #[arg(long, num_args = 0..=1, value_name = "AGENT")]
    pub agent: Option<Option<String>>,
    /// A tool, or a pattern with a `*` at its end; without a name each tool by itself.
    #[arg(long, num_args = 0..=1, value_name = "TOOL")]
    pub tool: Option<Option<String>>,
    /// A target system, in any case: what a tool's name has before its first `.`, `/` or `:`; without a
    /// name each by itself.
    #[arg(long, num_args = 0..=1, value_name = "SYSTEM")]
    pub connector: Option<Option<String>>,
    /// An Open Intent Layer category, a domain, or a pattern; without a name each category by itself.
    #[arg(long, num_args = 0..=1, value_name = "CATEGORY")]
    pub category: Option<Option<String>>,
    /// Everything in the environment.
    #[arg(long)]
    pub everything: bool,
}

#[derive(Args)]
pub struct Set {
    pub breaker: String,
    #[command(flatten)]
    pub on: On,
    /// The rules as JSON, as the interface takes them, instead of the options.
    #[arg(long, conflicts_with_all = ["error_rate", "denial_rate", "latency_ms", "velocity", "spend", "window_calls", "window_secs"])]
    pub file: Option<PathBuf>,
    /// Failed among the reported outcomes, in thousandths.
    #[arg(long, value_name = "PERMILLE")]
    pub error_rate: Option<u32>,
    /// Denied among the decisions, in thousandths.
    #[arg(long, value_name = "PERMILLE")]
    pub denial_rate: Option<u32>,
    /// The mean of the reported durations.
    #[arg(long, value_name = "MS")]
    pub latency_ms: Option<u32>,
    /// Allowed actions within the window.
    #[arg(long, value_name = "N")]
    pub velocity: Option<u32>,
    /// An argument and the sum within the window, in hundredths of its unit.
    #[arg(long, value_name = "ARGUMENT=HUNDREDTHS")]
    pub spend: Option<String>,
    /// Look at the last so many.
    #[arg(long, value_name = "N", conflicts_with = "window_secs")]
    pub window_calls: Option<u32>,
    /// Look at the last so many seconds [default: 300].
    #[arg(long, value_name = "SECS")]
    pub window_secs: Option<u32>,
    /// Below so many it opens nothing [default: 20].
    #[arg(long, value_name = "N")]
    pub minimum_calls: Option<u32>,
    /// How long it stays open before it is tried again [default: 60].
    #[arg(long, value_name = "SECS")]
    pub open_secs: Option<u32>,
    /// How many are let through while it is tried, and must succeed [default: 3].
    #[arg(long, value_name = "N")]
    pub probes: Option<u32>,
    /// Turn it off.
    #[arg(long)]
    pub off: bool,
}
