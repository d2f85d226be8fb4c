//! The exit codes of the `intended` binary: a public contract, see `docs/exit-codes.md`.

/// What a finished command tells the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done; for a decision: allow or modify.
    Ok = 0,
    /// Wrong usage, or something local (a file, a directory) failed.
    Usage = 1,
    /// The decision is deny.
    Deny = 2,
    /// The decision is escalate or defer.
    Pending = 3,
    /// Authentication or permission.
    Auth = 4,
    /// The server cannot be reached or is not ready.
    Unavailable = 5,
    /// Input did not validate.
    Invalid = 6,
    /// Tests failed.
    TestsFailed = 7,
    /// A proof, a signature or a re-execution failed.
    VerificationFailed = 8,
    /// Halted.
    Halted = 9,
    /// Interrupted from the keyboard.
    Interrupted = 130,
}
