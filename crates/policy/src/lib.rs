//! Policy packs, the Cedar schema, validation, the scope index and evaluation (pure)
