//! `cargo xtask deploy`: real ssh to real sshd on three hosts of the lab, and the real daemon on each.
//!
//! No systemd runs in the lab; a stand-in for `systemctl` starts and stops the daemon (`tests/lab/ssh/systemctl.sh`).

mod bounds;
mod broken;
mod connections;
mod faults;
mod fleet;
mod rollout;
