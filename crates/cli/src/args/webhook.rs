//! `webhook …`

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Webhook {
    /// The webhooks, and what came of their deliveries.
    #[command(before_help = "Examples:\n  intended webhook list")]
    List,
    /// Make one, or change it. The secret of a new one is printed once.
    #[command(
        before_help = "Examples:\n  intended webhook set pager --url https://hooks.acme.example/intended --event approval.requested\n  intended webhook set pager -e production --url https://hooks.acme.example/intended --event approval.requested --event approval.closed"
    )]
    Set {
        /// Its name.
        webhook: String,
        /// Where to send: https, and a public host.
        #[arg(long)]
        url: String,
        /// What to send; several times for several. With -e only of that environment.
        #[arg(long = "event", required = true, value_parser = clap::builder::PossibleValuesParser::new(intended_runtime::webhooks::EVENTS))]
        events: Vec<String>,
    },
    /// Remove one.
    #[command(before_help = "Examples:\n  intended webhook remove pager")]
    Remove {
        /// Its name.
        webhook: String,
    },
    /// Give one another secret, printed once. For a day deliveries are signed with both.
    #[command(before_help = "Examples:\n  intended webhook rotate pager")]
    Rotate {
        /// Its name.
        webhook: String,
    },
    /// Send a test event now.
    #[command(before_help = "Examples:\n  intended webhook test pager")]
    Test {
        /// Its name.
        webhook: String,
    },
}
