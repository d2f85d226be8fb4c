//! Signing in and out, and inviting people.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended login --member alice                     asks for the password, and for a code\n  intended login --link                             asks for the code of an invitation\n  intended login --provider corp                    through the identity provider\n  intended login --member alice --password-file -   from stdin: a line with the password, one with a code",
    after_help = "Passwords and codes are typed without an echo, or come from stdin or a file: never from an argument.\nThe session is kept in a file that only its owner reads, for this profile, server and tenant."
)]
pub struct Login {
    /// Who signs in.
    #[arg(long, required_unless_present_any = ["link", "provider"])]
    pub member: Option<String>,
    /// A file with the password in its first line, and a code of the authenticator in its second; `-` is stdin.
    #[arg(long, conflicts_with_all = ["link", "provider"])]
    pub password_file: Option<PathBuf>,
    /// With the code of an invitation, from the terminal or stdin; then a password is set.
    #[arg(long, conflicts_with_all = ["provider", "member"])]
    pub link: bool,
    /// With an identity provider.
    #[arg(long, conflicts_with = "member")]
    pub provider: Option<String>,
}
