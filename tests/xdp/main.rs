//! The XDP program and its dataplane: the program by `BPF_PROG_TEST_RUN` ([`rows`], [`cut`], [`budget`], [`sample`]),
//! the dataplane on a real veth pair in namespaces of its own ([`dataplane`], [`pinned`], [`lockout`]).
//!
//! Needs root; without it every test here fails and says so.

mod budget;
mod command;
mod cut;
mod dataplane;
mod frame;
mod kernel;
mod lockout;
mod pinned;
mod rows;
mod sample;
mod veth;
