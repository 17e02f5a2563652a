//! Commands: one table row each.
