//! The Open Intent Layer, the tool catalogue and the classifier (pure)
