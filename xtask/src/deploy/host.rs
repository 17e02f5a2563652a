//! Hosts: what may be one's name, and what one says of itself.

use std::str::FromStr;

use serde_json::Value;

/// A host as ssh knows it: a name, an address, an alias of its configuration, perhaps with `user@` before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HostName(String);

impl HostName {
    /// As it was given.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without `user@`: what its configuration's file is called after.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or(&self.0, |(_, name)| name)
    }
}

impl FromStr for HostName {
    type Err = String;

    /// Nothing that ssh could take for an option, a shell for a command, or a path for another folder.
    fn from_str(name: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_alphanumeric() || "._-:@[]%".contains(c);
        let parts_are_names = name.split('@').all(|part| !part.is_empty() && !part.starts_with(['-', '.']));
        if !parts_are_names || !name.chars().all(allowed) {
            return Err(
                "a host is a name, an address or an alias of ssh's configuration, as in `mx1.example.jp` or \
                        `root@192.0.2.25`; ports and keys belong into ssh's configuration"
                    .into(),
            );
        }
        Ok(Self(name.to_owned()))
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host says of itself.
#[derive(Clone, Default, Debug)]
pub(super) struct Facts {
    /// As `uname -m` has it.
    pub(super) machine: String,
    /// The C library's version; `None` where it is not glibc.
    pub(super) glibc: Option<(u32, u32)>,
    /// The release that `/usr/local/bin/backstop` leads to.
    pub(super) release: Option<String>,
    /// The release before it.
    pub(super) previous: Option<String>,
    /// All releases that are there.
    pub(super) kept: Vec<String>,
    /// A program was installed by hand.
    pub(super) found: bool,
    /// The unit's state, as `systemctl is-active` has it.
    pub(super) unit: String,
    /// SHA-256 of the release's program.
    pub(super) sha256: Option<String>,
    /// SHA-256 of the program that runs.
    pub(super) running: Option<String>,
    /// What `backstop status --json` says.
    pub(super) status: Value,
    /// Whether there is a configuration.
    pub(super) has_config: bool,
    /// The release to which a switch was cut off.
    pub(super) interrupted: Option<String>,
    /// Who has the lock, and since when.
    pub(super) holder: Option<String>,
    /// A switch is at work, and has at most so many seconds left.
    pub(super) switching_secs: Option<u32>,
    /// What it is doing.
    pub(super) doing: Option<String>,
}

impl Facts {
    /// Takes one in. What is not known is from a script of another version, and no harm.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        let some = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "machine" => value.clone_into(&mut self.machine),
            "glibc" => self.glibc = version(value),
            "release" => self.release = some(),
            "previous" => self.previous = some(),
            "kept" => self.kept.extend(some()),
            "found" => self.found = true,
            "unit" => value.clone_into(&mut self.unit),
            "sha256" => self.sha256 = some(),
            "running" => self.running = some(),
            "status" => self.status = serde_json::from_str(value).unwrap_or_default(),
            "config" => self.has_config = value == "yes",
            "interrupted" => self.interrupted = some(),
            "holder" => self.holder = some(),
            "switching" => self.switching_secs = Some(value.parse().unwrap_or_default()),
            "doing" => self.doing = some(),
            _ => {}
        }
    }

    /// The unit is active, its process runs the release's own program, and that says that it runs.
    pub(super) fn is_healthy(&self) -> bool {
        self.unit == "active"
            && self.sha256.is_some()
            && self.running == self.sha256
            && self.status["running"] == true
    }

    /// Since when the daemon runs, in seconds.
    pub(super) fn uptime_secs(&self) -> Option<u64> {
        self.status["uptime_secs"].as_u64()
    }
}

/// `2.36` as two numbers.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_neither_an_option_nor_a_path_nor_a_command() {
        for good in ["mx1", "mx1.example.jp", "root@192.0.2.25", "[2001:db8::1]", "fe80::1%eth0", "mx-2_b"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        let bad = [
            "",
            "-oProxyCommand=x",
            "root@-x",
            "@x",
            "a b",
            "a;b",
            "$(x)",
            "../x",
            "..",
            "a'b",
            "a\nb",
            "a/b",
        ];
        for bad in bad {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert_eq!("root@mx1".parse::<HostName>().unwrap().name(), "mx1");
    }

    #[test]
    fn healthy_takes_the_unit_the_program_and_its_own_word() {
        let healthy = [
            ("unit", "active"),
            ("sha256", "aa"),
            ("running", "aa"),
            ("status", r#"{"running":true,"uptime_secs":7}"#),
        ];
        let facts = |but: &str, value: &str| {
            let mut facts = Facts::default();
            for (name, usual) in healthy {
                facts.take(name, if name == but { value } else { usual });
            }
            facts
        };
        assert!(facts("", "").is_healthy());
        assert_eq!(facts("", "").uptime_secs(), Some(7));
        for (but, value) in
            [("unit", "failed"), ("sha256", ""), ("running", "bb"), ("status", ""), ("status", "{}")]
        {
            assert!(!facts(but, value).is_healthy(), "{but} is {value}");
        }
    }
}
