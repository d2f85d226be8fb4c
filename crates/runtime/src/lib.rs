//! The shell's heart: decision point, administration point, ports, group commit
