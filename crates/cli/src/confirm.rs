//! Asking before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal as _};

use crate::config::Global;
use crate::error::CliError;

/// Whether somebody can be asked.
fn can_ask(global: &Global) -> bool {
    !global.no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The name of what this is about: as --confirm says it, or typed on the terminal.
pub fn name(global: &Global, given: Option<&str>, wanted: &str, verb: &str) -> Result<(), CliError> {
    let hint = format!("--confirm {wanted}");
    match given {
        Some(given) if given == wanted => Ok(()),
        Some(_) => Err(CliError::usage(format!("--confirm does not name what this is about: `{wanted}`"), hint)),
        None if !can_ask(global) => Err(CliError::usage(
            format!("to {verb} `{wanted}` its name has to be confirmed, and nobody can be asked"),
            hint,
        )),
        None => {
            eprint!("to {verb} it, type its name ({wanted}): ");
            let mut input = std::io::stdin().lock();
            typed(&mut input, wanted)
        }
    }
}

fn typed(input: &mut impl BufRead, wanted: &str) -> Result<(), CliError> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(crate::error::file(std::path::Path::new("stdin")))?;
    if line.trim() == wanted {
        return Ok(());
    }
    Err(CliError::usage("that is not its name: nothing was done", format!("it is `{wanted}`")))
}

/// A line of text, where a flag did not give it.
pub fn ask(global: &Global, question: &str, flag: &str) -> Result<String, CliError> {
    if !can_ask(global) {
        return Err(CliError::usage(format!("{flag} is missing, and nobody can be asked"), format!("{flag} '…'")));
    }
    eprint!("{question}");
    let mut line = String::new();
    let mut input = std::io::stdin().lock();
    input.read_line(&mut line).map_err(crate::error::file(std::path::Path::new("stdin")))?;
    Ok(line.trim().to_owned())
}

/// Yes or no. Who cannot be asked and has not said --yes says no.
pub fn yes(global: &Global, question: &str) -> Result<(), CliError> {
    if global.yes {
        return Ok(());
    }
    if !can_ask(global) {
        return Err(CliError::usage(question.to_owned(), "--yes says yes"));
    }
    eprint!("{question} [y/N] ");
    let mut input = std::io::stdin().lock();
    agreed(&mut input)
}

fn agreed(input: &mut impl BufRead) -> Result<(), CliError> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(crate::error::file(std::path::Path::new("stdin")))?;
    if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::Usage("nothing was done".to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_itself_confirms_and_only_yes_agrees() {
        let name = |text: &str| typed(&mut text.as_bytes(), "production").is_ok();
        assert!(name("production\n") && name(" production "));
        assert!(!name("") && !name("\n") && !name("y\n") && !name("Production\n") && !name("productions\n"));
        let yes = |text: &str| agreed(&mut text.as_bytes()).is_ok();
        assert!(yes("y\n") && yes("YES"));
        assert!(!yes("") && !yes("\n") && !yes("n\n") && !yes("yess"));
    }
}
