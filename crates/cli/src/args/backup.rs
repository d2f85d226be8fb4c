//! Arguments of `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended backup --data-dir ./data --out monday.backup --checkpoint-out /mnt/elsewhere/acme.checkpoint\n  tar tf monday.backup                          it is a tar archive, with SHA256SUMS",
    after_help = "Also while a server runs on the directory; it is not held up. The copy is checked before it is named:\nits trees have the roots that were signed for. Keep the checkpoint somewhere else than the backup: it\ntells later whether the backup is the newest there was.\n\nExit code 8 when the copy does not hold."
)]
pub struct Backup {
    /// The directory of the server.
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The file to write, mode 0600. One that is there is not written over.
    #[arg(long)]
    pub out: PathBuf,
    /// Write the newest checkpoint to this file too; of several tenants, to files in this directory.
    #[arg(long, value_name = "PATH")]
    pub checkpoint_out: Option<PathBuf>,
    /// Put the root key into the backup: whoever has the file can then sign as the server does.
    #[arg(long)]
    pub with_root_key: bool,
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended restore monday.backup --data-dir ./new --root-key-file root.key --checkpoint acme.checkpoint --reason 'disk died'\n  intended restore monday.backup --data-dir ./new --root-key-file root.key --checkpoint acme.checkpoint --reason 'disk died' --accept-loss 120",
    after_help = "Every tenant starts halted: what came after the backup is unknown, so tokens from before are dead, people\nsign in again, and what waited for approval is asked for again. Lifting the halt is people's to do.\n\nWhat the config file in the backup says of keys, networks and destinations is printed first; look at it with\n--dry-run, which runs no program. Whoever wrote the backup wrote that file: --config takes your own.\n\nExit code 8 when the backup does not hold, or is older than a checkpoint that was kept."
)]
pub struct Restore {
    /// What `intended backup` wrote.
    pub backup: PathBuf,
    /// The directory to make. One that has something in it is refused.
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    /// A checkpoint that was kept elsewhere, or a directory of them: is this backup the newest there was?
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Vec<PathBuf>,
    /// Go on without so many entries, that a kept checkpoint signs for and this backup has not.
    #[arg(long, value_name = "ENTRIES")]
    pub accept_loss: Option<u64>,
    /// The root key of the server that was backed up, where the backup has it not.
    #[arg(long, value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// Your own copy of the config file, instead of the one in the backup.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take a config file from the backup that names a `root_key_command`, and run that program for the root
    /// key. A backup is as trusted as the server only if you know whose it is.
    #[arg(long, conflicts_with = "config")]
    pub run_root_key_command: bool,
    /// Why; it stands in the ledger.
    #[arg(long)]
    pub reason: String,
}
