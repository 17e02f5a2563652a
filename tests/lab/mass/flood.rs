//! The load generator while it runs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::RealReflector;
use crate::Process;

/// The load while it runs.
#[derive(Debug)]
pub struct Flood {
    pub(super) mass: Process,
    pub(super) feed: Option<Process>,
    pub(super) told: usize,
    /// What the real reflector had done before.
    pub(super) before: RealReflector,
}

impl Flood {
    /// Waits until the load has run for so long, by its own clock.
    ///
    /// # Errors
    /// When it ends before.
    pub fn wait_until(&mut self, second: f64) -> Result<()> {
        let reached = |line: &str| {
            let time = line.split(" s ").next().and_then(|time| time.trim().parse::<f64>().ok());
            time.is_some_and(|time| time >= second)
        };
        loop {
            if self.mass.lines().iter().any(|line| reached(line)) {
                return Ok(());
            }
            ensure!(self.mass.is_running(), "the load ended before second {second}:\n{}", self.mass.tail(20));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the load still runs; passes on what it said since the last call.
    pub fn is_running(&mut self, tell: &mut dyn FnMut(&str)) -> bool {
        let lines = self.mass.lines();
        for line in lines.iter().skip(self.told).filter(|line| !line.starts_with('{')) {
            tell(line);
        }
        self.told = lines.len();
        let feeding = self.feed.as_mut().is_some_and(Process::is_running);
        self.mass.is_running() || feeding
    }

    pub(super) fn end(&mut self, tell: &mut dyn FnMut(&str)) -> Result<()> {
        // The load stops by itself at its deadline.
        while self.is_running(tell) {
            std::thread::sleep(Duration::from_millis(100));
        }
        for process in [Some(&mut self.mass), self.feed.as_mut()].into_iter().flatten() {
            let status = process.wait(Duration::from_secs(1))?;
            ensure!(status.success(), "the load failed ({status}):\n{}", process.tail(20));
        }
        Ok(())
    }
}
