//! What a program needs of a machine: its architecture, and the version of the C library.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader as _};

use super::host::{Facts, version};

/// What the program was built for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Needs {
    /// As `uname -m` has it.
    machine: String,
    /// The oldest glibc that has all it calls; `None`: it brings its own.
    glibc: Option<(u32, u32)>,
}

impl Needs {
    /// Reads it from the file's own tables.
    pub(super) fn of(program: &[u8]) -> Result<Self> {
        ensure!(program.starts_with(b"\x7fELF"), "it is no ELF program");
        let header = FileHeader64::<object::Endianness>::parse(program).context("its header is damaged")?;
        let endian = header.endian().context("its header is damaged")?;
        let machine = match header.e_machine(endian) {
            EM_X86_64 => "x86_64".to_owned(),
            EM_AARCH64 => "aarch64".to_owned(),
            other => format!("ELF machine {other}"),
        };
        let sections = header.sections(endian, program).context("its sections cannot be read")?;
        let mut glibc = None;
        // The versions of symbols that it needs, by library (the LSB's "version needs").
        for section in sections.iter() {
            let Some((mut libraries, link)) =
                section.gnu_verneed(endian, program).context("its needs cannot be read")?
            else {
                continue;
            };
            let strings = sections.strings(endian, program, link).context("its strings cannot be read")?;
            while let Some((_, mut versions)) = libraries.next().context("its needs cannot be read")? {
                while let Some(needed) = versions.next().context("its needs cannot be read")? {
                    let name = needed.name(endian, strings).context("its strings cannot be read")?;
                    let name = std::str::from_utf8(name).unwrap_or_default();
                    glibc = glibc.max(name.strip_prefix("GLIBC_").and_then(version));
                }
            }
        }
        Ok(Self { machine, glibc })
    }

    /// Whether it can run there, as far as that can be told without trying.
    pub(super) fn met_by(&self, host: &Facts) -> Result<()> {
        if self.machine != host.machine {
            bail!("the program is built for {}, and this host is {}", self.machine, host.machine);
        }
        match (self.glibc, host.glibc) {
            (Some(needed), Some(there)) if needed > there => bail!(
                "the program needs glibc {}.{}, and this host has {}.{}: build it on a system as old as the host, and \
                 give it with --binary",
                needed.0,
                needed.1,
                there.0,
                there.1
            ),
            (Some(needed), None) => {
                bail!(
                    "the program needs glibc {}.{}, and this host has another C library",
                    needed.0,
                    needed.1
                )
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(machine: &str, glibc: &str) -> Facts {
        let mut facts = Facts::default();
        facts.take("machine", machine);
        facts.take("glibc", glibc);
        facts
    }

    #[test]
    fn this_very_program_runs_here_and_not_on_what_is_older_or_another_machine() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = Needs::of(&program).unwrap();
        assert_eq!(needs.machine, std::env::consts::ARCH);
        assert!(needs.glibc >= Some((2, 17)), "{needs:?}");
        let here = std::env::consts::ARCH;
        needs.met_by(&host(here, "2.99")).unwrap();
        let error = needs.met_by(&host(here, "2.5")).unwrap_err().to_string();
        assert!(error.contains("this host has 2.5"), "{error}");
        let error = needs.met_by(&host("riscv64", "2.99")).unwrap_err().to_string();
        assert!(error.contains("this host is riscv64"), "{error}");
        assert!(needs.met_by(&host(here, "")).is_err(), "another C library");
    }

    #[test]
    fn what_is_cut_off_anywhere_in_its_header_is_an_error_and_no_panic() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in 0..64 {
            assert!(Needs::of(&program[..length]).is_err(), "{length} octets");
        }
        assert!(Needs::of(b"#!/bin/sh\n").is_err());
    }
}
