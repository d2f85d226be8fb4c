//! `access`.

use super::Outcome;
use crate::args::{Access, Members};
use crate::config::Global;

mod invite;

pub async fn run(global: &Global, args: Access) -> Outcome {
    match args {
        Access::Members(Members::Invite { member, code_file }) => {
            invite::run(global, &member, code_file.as_deref()).await
        }
    }
}
