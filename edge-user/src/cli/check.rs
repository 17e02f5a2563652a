//! `backstop check`: what is wrong with a configuration, its keys or this machine; or what was understood.

use std::path::{Path, PathBuf};

use nix::net::if_::{if_nameindex, if_nametoindex};
use serde_json::json;

use super::filter::Early;
use super::{Answer, CONFIG_PATH, print, print_json};
use crate::config::{Config, ConfigError, Level, Loaded, Machine, Places, Problem, TlsMode, keys, read};
use crate::control::check_groups;
use crate::engine::clock::system_now;
use crate::engine::tls::{Certificate, day};

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    super::must_exist(&args.config)?;
    let (config, problems) = match read(&args.config) {
        Ok(Loaded { config, mut warnings, places }) => {
            warnings.extend(beyond_the_file(&config, &places)?);
            (Some(config), warnings)
        }
        Err(ConfigError::Invalid(problems)) => (None, problems.problems),
        Err(error @ ConfigError::Unreadable { .. }) => return Err(error.into()),
    };
    let answer =
        if problems.iter().any(|problem| problem.level == Level::Error) { Answer::No } else { Answer::Yes };
    let in_order = config.as_ref().filter(|_| answer == Answer::Yes);
    let early = in_order.and_then(|config| Early::at_all(config, &args.config));
    if args.json {
        print_json(&json!({
            "ok": answer == Answer::Yes,
            "file": args.config,
            "problems": problems,
            "early": early.as_ref().map(Early::json),
            "config": config,
        }))?;
    } else {
        let mut told: String =
            problems.iter().map(|problem| format!("{}\n", problem.in_file(&args.config))).collect();
        told += &in_order.map_or(String::new(), |config| understood(config, &args.config));
        told += &early.map_or(String::new(), |early| format!("\nEARLY TO ENFORCE: {}\n", early.text()));
        print(&told)?;
    }
    Ok(answer)
}

/// What is wrong with the keys and with this machine, at the settings that ask for it.
fn beyond_the_file(config: &Config, places: &Places) -> anyhow::Result<Vec<Problem>> {
    let error = |key: &str, text| Problem { level: Level::Error, line: 0, column: 0, key: key.into(), text };
    let mut problems = Machine::here()?.problems(config);
    if let Some(xdp) = &config.xdp
        && if_nametoindex(xdp.interface.as_str()).is_err()
    {
        let there: Vec<String> =
            if_nameindex()?.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect();
        let text = format!("there is no interface {}; there are {}", xdp.interface, there.join(", "));
        problems.push(error("xdp.interface", text));
    }
    if let Err(fault) = check_groups(&config.control) {
        problems.push(error("control", fault.to_string()));
    }
    problems.extend(super::quarantine::problems(config));
    problems.extend(super::tls::problems(config, system_now()));
    if let Err((place, fault)) = config.tenant_secrets() {
        problems.push(error(&format!("outbound.tenant[{place}].secret_file"), fault.to_string()));
    }
    let dir = &config.signature.keys;
    match keys::load_signing(dir, system_now()) {
        Ok(_) => {}
        Err(fault) if !dir.exists() => {
            let text =
                format!("{fault}; make it, with a first key: backstop key new --dir {}", dir.display());
            problems.push(error("signature.keys", text));
        }
        Err(fault) => problems.push(error("signature.keys", fault.to_string())),
    }
    for problem in &mut problems {
        (problem.line, problem.column) = places.of(&problem.key).unwrap_or((0, 0));
    }
    Ok(problems)
}

/// The configuration in a few lines.
fn understood(config: &Config, file: &Path) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let mut told = format!("{} is in order\n", file.display());
    let listen = config.inbound.listen.iter().map(ToString::to_string).collect();
    told += &format!("inbound   {} as {}\n", list(listen), config.hostname);
    match &config.outbound {
        Some(outbound) => {
            let listen = outbound.listen.iter().map(ToString::to_string).collect();
            let networks = outbound.networks.iter().map(ToString::to_string).collect();
            told += &format!(
                "outbound  {} for {}, signed and handed to {}\n",
                list(listen),
                list(networks),
                outbound.next_hop
            );
            for tenant in &outbound.tenants {
                let networks = tenant.networks.iter().map(ToString::to_string).collect();
                told += &format!("tenant    {}, with the secret in {}\n", list(networks), tenant.header);
            }
        }
        None => told += "outbound  none: nothing is signed, so no bounce can be proven\n",
    }
    for certificate in &config.tls.certificates {
        let names = match Certificate::read(certificate) {
            Ok(certificate) if certificate.names.is_empty() => {
                format!("no name, until {}: give it its `names`", day(certificate.not_after))
            }
            Ok(certificate) => format!("{}, until {}", list(certificate.names), day(certificate.not_after)),
            Err(error) => error.to_string(),
        };
        told += &format!("tls       STARTTLS for {names}\n");
    }
    for upstream in &config.tls.upstreams {
        let name = upstream.name.as_ref().map_or(String::new(), |name| format!(" as {name}"));
        let how = match upstream.mode {
            TlsMode::Off => "in clear",
            TlsMode::Opportunistic => "by TLS where it can be had",
            TlsMode::Verified => "by TLS, verified",
        };
        told += &format!("tls       to {} {how}{name}\n", upstream.address);
    }
    for domain in &config.domains {
        let tag = if domain.tag { ", tagged" } else { "" };
        told += &format!("domain    {} at {}{tag}\n", domain.name, domain.upstream);
    }
    for (place, filter) in config.filters.iter().enumerate() {
        told += &format!("filter    {place}: {}\n", super::filter::line(filter));
    }
    if config.filters.is_empty() {
        told += "filter    none: every bounce is delivered, and logged\n";
    }
    for forwarder in &config.trusted_forwarders {
        let networks = forwarder.networks.iter().map(ToString::to_string).collect();
        let to = forwarder.recipients.join(", ");
        let (per_hour, memo) = (forwarder.per_hour, &forwarder.memo);
        told += &format!("forwarder {} to {to}, {per_hour} an hour for each  # {memo}\n", list(networks));
    }
    match &config.xdp {
        Some(xdp) => {
            let ports = xdp.ports.iter().map(ToString::to_string).collect();
            let watch = if xdp.watch { ", watching only" } else { "" };
            told += &format!("xdp       {} for ports {}{watch}\n", xdp.interface, list(ports));
        }
        None => told += "xdp       none: the network card drops nothing\n",
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is in order but for what `more` says, with or without a key.
    fn checked(more: &str, key: bool) -> (Answer, Vec<Problem>) {
        let dir = tempfile::tempdir().unwrap();
        let keys_dir = dir.path().join("keys");
        if key {
            keys::create(&keys_dir, system_now()).unwrap();
        }
        let file = dir.path().join("backstop.toml");
        let text = format!(
            "hostname = \"mx.example.jp\"\ninbound.listen = [\"127.0.0.1:25\"]\nsignature.keys = {keys_dir:?}\n\
             limits.sessions_max = 100\n[[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:26\"\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        let problems = match read(&file) {
            Ok(loaded) => beyond_the_file(&loaded.config, &loaded.places).unwrap(),
            Err(error) => panic!("{error}"),
        };
        (run(Args { config: file, json: true }).unwrap(), problems)
    }

    #[test]
    fn keys_and_interface_must_be_there() {
        let (answer, problems) = checked("[xdp]\ninterface = \"lo\"\n", true);
        assert_eq!((answer, problems), (Answer::Yes, vec![]));
        let (answer, problems) = checked("[xdp]\ninterface = \"nosuch0\"\n", false);
        assert_eq!(answer, Answer::No);
        assert!(problems[0].text.contains("there is no interface nosuch0; there are"), "{problems:?}");
        assert!(problems[1].text.contains("backstop key new"), "{problems:?}");
        let places: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
        assert_eq!(places, [(9, 13), (3, 18)], "the settings that ask for it");
    }

    #[test]
    fn a_group_that_does_not_exist_is_a_no() {
        let (answer, problems) = checked("[control]\nwrite_group = \"no-such-group\"\n", true);
        assert_eq!(answer, Answer::No);
        assert!(problems[0].text.contains("there is no group `no-such-group`"), "{problems:?}");
    }

    #[test]
    fn a_quarantine_without_a_place_is_a_no_and_one_on_a_full_disk_is_warned_of() {
        let quarantine = "[[filter]]\ncovers = [\"*\"]\naction = \"quarantine\"\n";
        let more = |state: &str, free: u64| {
            format!("[state]\ndir = \"{state}\"\n[quarantine]\nfree_bytes_min = {free}\n{quarantine}")
        };
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_str().unwrap();
        // Nobody makes a folder in a file, not even root.
        std::fs::write(format!("{dir}/file"), "").unwrap();
        let nowhere = format!("{dir}/file/state");
        let (answer, problems) = checked(&more(&nowhere, 0), true);
        assert_eq!(answer, Answer::No);
        assert!(problems[0].text.contains("file cannot be written"), "{problems:?}");
        assert_eq!(checked(&more(dir, 0), true), (Answer::Yes, vec![]));
        let (answer, problems) = checked(&more(dir, 1 << 62), true);
        assert_eq!((answer, problems[0].key.as_str()), (Answer::Yes, "quarantine.free_bytes_min"));
        let unused = more(&nowhere, 0).replace("covers = [\"*\"]", "covers = [\"*\"]\non = false");
        assert_eq!(checked(&unused, true).0, Answer::Yes);
    }

    #[test]
    fn a_wrong_file_is_a_no_and_a_missing_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstop.toml");
        let missing = run(Args { config: file.clone(), json: true }).unwrap_err();
        assert!(missing.to_string().contains("backstop init"), "{missing:#}");
        std::fs::write(&file, "hostname = 3").unwrap();
        assert_eq!(run(Args { config: file, json: true }).unwrap(), Answer::No);
    }
}
