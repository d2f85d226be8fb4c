//! The decision procedure: state fold, gates, risk, and decide (pure)
