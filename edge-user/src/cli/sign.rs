//! `backstop sign`: a message as outgoing mail is signed, by the same function as the outbound listener's.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use edge_core::mailbox::Mailbox;
use edge_core::message::header::{Collector, Section};
use edge_core::message::outgoing::{Signing, tagged_sender};
use edge_core::signature::Keys;
use edge_core::smtp::Address;
use edge_core::time::UnixMillis;

use super::{Answer, CONFIG_PATH, configuration};
use crate::config::{Config, keys};
use crate::engine::clock;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// The envelope sender, in one of the configured domains: where bounces return to.
    #[arg(long, value_name = "ADDRESS")]
    sender: String,
    /// How many recipients the message has.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    recipients: u32,
    /// Tag the envelope sender too, and write it in front as `Return-Path`, for want of an envelope.
    #[arg(long)]
    tag: bool,
}

/// Runs it: the message comes from stdin and goes to stdout.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let config = configuration(&args.config)?;
    let keys = keys::load(&config.signature.keys)?;
    let max = config.limits.message_bytes_max;
    let mut message = Vec::new();
    std::io::stdin()
        .lock()
        .take(max.saturating_add(1))
        .read_to_end(&mut message)
        .context("cannot read stdin")?;
    if message.len() as u64 > max {
        bail!("the message on stdin is larger than `message_bytes_max`, {max} octets");
    }
    let signed = sign(&args, &config, &keys, &message, clock::system_now(), rand::random())?;
    let mut out = std::io::stdout().lock();
    out.write_all(&signed).and_then(|()| out.flush()).context("cannot write to stdout")?;
    Ok(Answer::Yes)
}

fn sign(
    args: &Args,
    config: &Config,
    keys: &Keys,
    message: &[u8],
    now: UnixMillis,
    nonces: [[u8; 6]; 3],
) -> anyhow::Result<Vec<u8>> {
    let address = Address::parse(args.sender.as_bytes());
    let sender = address.and_then(|address| Mailbox::of(&address));
    let (Some(address), Some(sender)) = (address, sender) else {
        bail!("--sender {}: no address; expected local@domain", args.sender);
    };
    let domains = config.domains_by_name();
    if !domains.contains_key(sender.domain()) {
        bail!("--sender {}: {} is no [[domain]] of the configuration", args.sender, sender.domain());
    }
    let signing = Signing {
        keys,
        sender: &sender,
        recipients: args.recipients,
        is_ours: &|domain| domains.contains_key(domain),
        now,
        nonces,
    };
    let added = signing.fields(&header_section(message, config.limits.header_bytes_max)?)?;
    let mut fields = String::new();
    if args.tag {
        let tagged = tagged_sender(keys, &address, now).with_context(|| {
            format!("--sender {}: its local part is too long for a tag, needs quotes or has one", args.sender)
        })?;
        fields = format!("Return-Path: <{tagged}>\r\n");
    }
    fields += &added.fields;
    if !ends_lines_with_crlf(message) {
        fields = fields.replace("\r\n", "\n");
    }
    Ok([fields.as_bytes(), message].concat())
}

/// The header section as it goes over the wire.
fn header_section(message: &[u8], header_bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut collector = Collector::new(header_bytes_max);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match collector.take(&[text, b"\r\n"].concat()) {
            Section::More => {}
            Section::Ends(len) => return Ok(collector.octets()[..len].to_vec()),
            Section::TooLong => {
                bail!("the header section is longer than `header_bytes_max`, {header_bytes_max} octets")
            }
        }
    }
    Ok(collector.octets().to_vec())
}

fn ends_lines_with_crlf(message: &[u8]) -> bool {
    match message.iter().position(|&octet| octet == b'\n') {
        Some(at) => message[..at].ends_with(b"\r"),
        None => true,
    }
}
