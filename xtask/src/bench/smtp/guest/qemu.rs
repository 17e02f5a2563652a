//! The guest's machine: QEMU, which ends with this program, at the latest at its deadline.
//!
//! It is emulated, not virtualised: `/dev/kvm` is often not there, or there and not usable, and what is measured here
//! needs no speed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};

use super::signals::Signals;
use crate::bench::cores::FIRST;
use crate::setup::guest::Parts;

/// The kernel's command line. On a busy machine, timers of an emulated one are late, which is no reason to panic.
const KERNEL: &str = "console=ttyS0 loglevel=4 panic=-1 no_timer_check nowatchdog mitigations=off";
/// Lines that may wait to be read.
const LINES_MAX: usize = 1024;
/// How much of the console is shown where something fails.
const CONSOLE_BYTES: usize = 4000;
/// How long it may take to end once its guest is done.
const END: Duration = Duration::from_secs(20);
/// How often it is looked whether a signal came.
const LOOK: Duration = Duration::from_millis(100);

/// A guest that runs.
#[derive(Debug)]
pub(super) struct Guest {
    qemu: Child,
    /// What it says on its second serial port.
    lines: Receiver<String>,
    deadline: Instant,
}

/// What to boot.
pub(super) struct Boot<'a> {
    pub(super) parts: &'a Parts,
    /// The archive of its files.
    pub(super) files: &'a Path,
    /// Where its first serial port, which is its console, is written to.
    pub(super) console: &'a Path,
    /// Its memory, in MiB: no more of this machine's is taken than it uses.
    pub(super) memory_mib: u64,
    /// What else the machine does is to keep it waiting as little as can be: where its figures count.
    pub(super) comes_first: bool,
}

impl Guest {
    /// Boots one.
    pub(super) fn boot(boot: &Boot<'_>, patience: Duration) -> Result<Self> {
        let [program, arguments @ ..] = &command(boot)[..] else { bail!("no command") };
        let mut qemu = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdout = qemu.stdout.take().context("QEMU's output")?;
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            // Ends with QEMU, or when nobody listens any more.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { qemu, lines, deadline: Instant::now() + patience })
    }

    /// The next line; `None` when the guest has ended.
    pub(super) fn line(&self, signals: &Signals) -> Result<Option<String>> {
        loop {
            let came = self.lines.recv_timeout(LOOK);
            // First: who interrupts this may have ended the guest, too.
            signals.ensure_none_came()?;
            match came {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if Instant::now() < self.deadline => {}
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the guest was not done in its time, and was ended: hold fewer (--connections), or let the machine do \
                     less else"
                ),
            }
        }
    }

    /// Lets it end by itself, for a while; it is ended after that.
    pub(super) fn wait(mut self) {
        self.ended_within(END);
    }

    /// Why it failed, and what there is to see of it.
    pub(super) fn failed(mut self, error: &Error, console: &Path) -> Error {
        let status = self.ended_within(Duration::from_secs(1)).map(shown).unwrap_or_default();
        anyhow!("{error:#}{status}\nThe guest's console ended so:\n{}", console_end(console))
    }

    fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.qemu.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                ended => return ended.ok().flatten(),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Where it has ended, both say so, and nothing is left to do.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// How QEMU ended, for messages.
fn shown(status: ExitStatus) -> String {
    // What this program ends has no status that anybody sees.
    let why = if status.signal() == Some(9) {
        ": the machine ran out of memory, or somebody killed it"
    } else {
        ""
    };
    format!(" (QEMU: {status}{why})")
}

/// The command: the kernel ends QEMU when this program ends, however that happens.
fn command(boot: &Boot<'_>) -> Vec<String> {
    let Boot { parts, files, console, memory_mib, comes_first } = boot;
    let folders = |folders: &[std::path::PathBuf]| {
        folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>()
    };
    let mut argv = Vec::new();
    if *comes_first && nix::unistd::geteuid().is_root() {
        argv.extend(FIRST.map(String::from));
    }
    argv.extend(["setpriv", "--pdeathsig=KILL", "env"].map(String::from));
    argv.push(format!("LD_LIBRARY_PATH={}", folders(&parts.libraries).join(":")));
    // Its accelerator is a module.
    argv.push(format!("QEMU_MODULE_DIR={}", parts.modules.display()));
    argv.push(parts.qemu.display().to_string());
    for folder in folders(&parts.firmware) {
        argv.extend(["-L".into(), folder]);
    }
    let fixed = "-nodefaults -no-user-config -no-reboot -display none -machine pc,memory-backend=ram -cpu max -smp 2 \
                 -accel tcg,thread=multi";
    argv.extend(fixed.split_whitespace().map(String::from));
    argv.extend(["-m".into(), format!("{memory_mib}M")]);
    // It may seem to have more than this machine has.
    argv.extend(["-object".into(), format!("memory-backend-ram,id=ram,size={memory_mib}M,reserve=off")]);
    argv.extend(["-kernel".into(), parts.kernel.display().to_string()]);
    argv.extend(["-initrd".into(), files.display().to_string()]);
    argv.extend(["-append".into(), KERNEL.into()]);
    argv.extend(["-serial".into(), format!("file:{}", console.display())]);
    argv.extend(["-serial".into(), "stdio".into()]);
    argv
}

/// The last lines of a console.
fn console_end(console: &Path) -> String {
    let text = std::fs::read(console).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(CONSOLE_BYTES)..]).into_owned()
}
