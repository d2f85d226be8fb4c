//! `policy schema`.

use intended_model::ExitCode;
use serde_json::json;

use super::local;
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::output::{one, say};

pub async fn run(global: &Global) -> Outcome {
    let text = if global.environment_flag.is_some() {
        Client::new(global)?.text("policy-schema").await?
    } else {
        local::schema(None)?.text().to_owned()
    };
    if global.output == Format::Table {
        say(text.trim_end());
    } else {
        one(global.output, &json!({"schema": text}));
    }
    Ok(ExitCode::Ok)
}
