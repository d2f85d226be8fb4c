//! The whole runtime in memory: mock clock, seeded generator, fault injection
