//! The map ABI that the XDP program and the daemon share.
#![cfg_attr(target_arch = "bpf", no_std)]
