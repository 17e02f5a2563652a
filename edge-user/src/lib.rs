//! The shell around [`edge_core`]: configuration, command line, engine, telemetry and the XDP program from userspace.
//!
//! The arrows of `use` point downwards: cli, control, engine, telemetry, dataplane, state, config.

pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod engine;
pub mod state;
pub mod telemetry;
