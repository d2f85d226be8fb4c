//! `siem …`

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Siem {
    /// The sinks, and how far each has come.
    #[command(
        before_help = "Examples:\n  intended siem status\n  intended siem status -o json",
        after_help = "Exit code 5 when one is failing or behind."
    )]
    Status,
    /// Send one event that is marked as a test.
    #[command(before_help = "Examples:\n  intended siem test soc", after_help = "Exit code 5 when it was not taken.")]
    Test {
        /// The sink's name, as the server's config file has it.
        sink: String,
    },
}
