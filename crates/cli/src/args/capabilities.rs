//! `capabilities`

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use intended_runtime::capabilities::Area;

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended capabilities\n  intended capabilities --area emergency\n  intended capabilities --status degraded --status unavailable\n  intended capabilities --verbose                what is claimed, how it is tried, which tests hold it\n  intended capabilities -o json",
    after_help = "Each row is what a live probe found on the server, at most 5 seconds ago. Probes change nothing that others see.\nExit code 5 when one of the rows that are shown is unavailable, else 0."
)]
pub struct Capabilities {
    /// Of one area only.
    #[arg(long, value_parser = PossibleValuesParser::new(Area::ALL.iter().map(|a| a.as_str())))]
    pub area: Option<String>,
    /// With this status only; can be given several times.
    #[arg(long, value_enum)]
    pub status: Vec<Status>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    Working,
    NotConfigured,
    Degraded,
    Unavailable,
}

impl Status {
    /// As the server says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::NotConfigured => "not configured",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}
