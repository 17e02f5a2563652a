//! End to end: real mail servers and Backstop in the lab. Needs root and what `cargo xtask setup` installs; without
//! them these tests fail and say so.

mod lab_itself;
mod servers_alone;
