//! `backstop verify`: does a bounce answer our own mail? The same checks as the inbound listener's, and why.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use edge_core::bounce::message_ids::Place;
use edge_core::bounce::{Confidence, Encoding, Found, Kind, MessageIds, Reading, START_BYTES_MAX, Scanner};
use edge_core::mailbox::Mailbox;
use edge_core::signature::{Keys, Proof, TokenFault, tags, tokens};
use edge_core::smtp::Address;
use edge_core::time::UnixMillis;
use serde::Serialize;

use super::{Answer, CONFIG_PATH, configuration, print, print_json};
use crate::config::{Config, keys};
use crate::engine::{Domains, clock, record};

/// Octets of a piece that is read and scanned at once.
const PIECE_BYTES: usize = 64 << 10;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// The envelope recipient of the bounce, with its tag if it has one.
    #[arg(long, value_name = "ADDRESS")]
    recipient: String,
    /// Verify as if it were this time, e.g. 2026-11-24T20:31:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// The bounce; `-` is stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What was found out.
#[derive(Serialize, PartialEq, Eq, Debug)]
struct Finding {
    proven: bool,
    proof: Option<Proof>,
    /// `recipient`, how the place in the message is encoded, or for the record which field it is.
    r#where: Option<&'static str>,
    reason: String,
}

/// All that is printed: whether it is proven, and what it says of itself.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    kind: Kind,
    confidence: Confidence,
    /// What told the kind.
    told_by: &'static str,
}

/// The kind in words.
fn kind(reading: &Reading) -> String {
    match reading.confidence {
        Confidence::None => "nothing tells its kind: it counts as a bounce".into(),
        Confidence::Likely => {
            format!("it is likely of the kind {}, by {}", reading.kind.name(), reading.told_by)
        }
        Confidence::Certain => format!("it is of the kind {}, by {}", reading.kind.name(), reading.told_by),
    }
}

/// Runs it. Exit code 1: not proven.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let config = configuration(&args.config)?;
    let keys = keys::load(&config.signature.keys)?;
    let now = match args.at {
        Some(at) => UnixMillis::from_secs(u64::try_from(at.as_second()).context("--at is before 1970")?),
        None => clock::system_now(),
    };
    let judge = Judge { config: &config, keys: &keys, now, max_age: config.token_age_max() };
    let (mut message, name): (Box<dyn Read>, _) = if args.file == Path::new("-") {
        (Box::new(std::io::stdin().lock()), "stdin".to_owned())
    } else {
        let name = args.file.display().to_string();
        let file = std::fs::File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
        (Box::new(file), name)
    };
    let cannot_read = || format!("cannot read {name}");
    let mut start = Vec::new();
    message.by_ref().take(START_BYTES_MAX as u64).read_to_end(&mut start).with_context(cannot_read)?;
    let reading = Domains::of(&config)?.reading_of([&start[..]]);
    let finding = judge.judge(&args.recipient, start.as_slice().chain(message), cannot_read)?;
    if args.json {
        print_json(&Printed {
            finding: &finding,
            kind: reading.kind,
            confidence: reading.confidence,
            told_by: reading.told_by,
        })?;
    } else {
        let said = if finding.proven { "proven" } else { "not proven" };
        print(&format!("{said}: {}; {}", finding.reason, kind(&reading)))?;
    }
    Ok(if finding.proven { Answer::Yes } else { Answer::No })
}

struct Judge<'k> {
    config: &'k Config,
    keys: &'k Keys,
    now: UnixMillis,
    max_age: Duration,
}

impl Judge<'_> {
    fn judge(
        &self,
        recipient: &str,
        mut message: impl Read,
        cannot_read: impl Fn() -> String,
    ) -> anyhow::Result<Finding> {
        let address = Address::parse(recipient.as_bytes());
        let mailbox = address.and_then(|address| Mailbox::of(&address));
        let (Some(address), Some(mailbox)) = (address, mailbox) else {
            bail!("--recipient {recipient}: no address; expected local@domain");
        };
        let domain = mailbox.domain();
        if self.config.domains.iter().all(|ours| ours.name != domain) {
            let reason = format!(
                "{domain} is no domain of this edge ([[domain]]): it refuses the recipient (550 5.7.1)"
            );
            return Ok(Finding { proven: false, proof: None, r#where: None, reason });
        }
        let tag_fault = match self.tag(&address) {
            Ok(finding) => return Ok(finding),
            Err(fault) => fault,
        };
        let (mut scanner, mut message_ids) = (Scanner::new(), MessageIds::new());
        let mut named = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut faults = TokenFaults::default();
        loop {
            let len = match message.read(&mut piece) {
                Ok(len) => len,
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(fault) => return Err(fault).with_context(cannot_read),
            };
            let mut proven = None;
            let mut look = |found: Found| {
                if proven.is_none() {
                    proven = self.token(&found, &mailbox).map_err(|fault| faults.note(fault)).ok();
                }
            };
            let mut name = |place, id: &[u8]| named.push((place, id.to_vec()));
            match len {
                0 => message_ids.finish(&mut name),
                _ => message_ids.scan(&piece[..len], &mut name),
            }
            match len {
                0 => scanner.finish(&mut look),
                _ => scanner.scan(&piece[..len], &mut look),
            }
            match proven {
                Some(finding) => return Ok(finding),
                None if len == 0 => break,
                None => {}
            }
        }
        let record_fault = match self.record(&named, &mailbox)? {
            Ok(finding) => return Ok(finding),
            Err(fault) => fault,
        };
        let reason = [tag_fault, Some(faults.reason(&mailbox)), Some(record_fault)];
        let reason = reason.into_iter().flatten().collect::<Vec<_>>();
        Ok(Finding { proven: false, proof: None, r#where: None, reason: reason.join("; ") })
    }

    /// # Errors
    /// The tag proves nothing; why, if there is one.
    fn tag(&self, recipient: &Address<'_>) -> Result<Finding, Option<String>> {
        let tagged = tags::split(recipient).ok_or(None)?;
        match tags::verify(self.keys, &tagged, self.now) {
            Ok(proof) if proof.expired => Err(Some("the recipient's tag is ours and has expired".into())),
            Ok(proof) => Ok(Finding {
                proven: true,
                proof: Some(Proof::Tag),
                r#where: Some("recipient"),
                reason: format!("the recipient's tag was made with key {}", proof.key_id),
            }),
            Err(fault) => Err(Some(format!("the recipient's tag is not ours: {fault}"))),
        }
    }

    /// What the Message-IDs prove that stand where one may; or why none does.
    fn record(
        &self,
        named: &[(Place, Vec<u8>)],
        mailbox: &Mailbox,
    ) -> anyhow::Result<Result<Finding, String>> {
        if named.is_empty() {
            return Ok(Err("it names no message that it answers".into()));
        }
        let dir = &self.config.state.dir;
        let record = record::look(self.config, dir, self.now).with_context(|| {
            format!(
                "cannot read the record of sent mail in {}; it is the daemon's and root's to read",
                dir.display()
            )
        })?;
        let found = named
            .iter()
            .find_map(|(place, id)| Some((place, id, record.find(self.keys, mailbox, id, self.now)?)));
        let Some((place, id, sent)) = found else {
            let fault = match record.is_empty() {
                true => format!("no record of sent mail is in {}", dir.display()),
                false => format!("no message that it names was sent for {}", mailbox.as_str()),
            };
            return Ok(Err(fault));
        };
        let day = keys::rfc3339(UnixMillis::from_secs(u64::from(sent.day) * 86_400));
        let day = day.split('T').next().unwrap_or_default();
        let message = format!("message {} of {day}", String::from_utf8_lossy(id));
        if !self.config.policy().record_proves(mailbox) {
            return Ok(Err(format!(
                "it answers our {message}, but the filter for {} says that the record proves nothing",
                mailbox.as_str()
            )));
        }
        Ok(Ok(Finding {
            proven: true,
            proof: Some(Proof::Record),
            r#where: Some(place.text()),
            reason: format!(
                "the record has {message}, sent for {}; {} names it",
                mailbox.as_str(),
                place.text()
            ),
        }))
    }

    fn token(&self, found: &Found, mailbox: &Mailbox) -> Result<Finding, TokenFault> {
        let token = tokens::verify(self.keys, &found.candidate, mailbox, self.now, self.max_age)?;
        let issued = keys::rfc3339(UnixMillis::from_secs(u64::from(token.issued_hours) * 3600));
        let place = match found.encoding {
            Encoding::Plain => "plain text",
            Encoding::QuotedPrintable => "quoted-printable",
            Encoding::Base64 => "base64",
        };
        Ok(Finding {
            proven: true,
            proof: Some(Proof::Token),
            r#where: Some(place),
            reason: format!(
                "a token for {} came back in {place}: key {}, issued in the hour of {issued}",
                mailbox.as_str(),
                token.key_id
            ),
        })
    }
}

/// Why the candidates proved nothing: how many there were, and the fault nearest to a proof.
#[derive(Default)]
struct TokenFaults {
    candidates: usize,
    nearest: Option<TokenFault>,
}

impl TokenFaults {
    fn note(&mut self, fault: TokenFault) {
        self.candidates += 1;
        if self.nearest.as_ref().is_none_or(|nearest| nearness(&fault) > nearness(nearest)) {
            self.nearest = Some(fault);
        }
    }

    fn reason(&self, mailbox: &Mailbox) -> String {
        let mailbox = mailbox.as_str();
        match &self.nearest {
            None => "no token came back".into(),
            Some(fault) => {
                format!(
                    "{} came back, none for {mailbox}: {fault}",
                    match self.candidates {
                        1 => "1 token".to_owned(),
                        more => format!("{more} tokens"),
                    }
                )
            }
        }
    }
}

fn nearness(fault: &TokenFault) -> u8 {
    match fault {
        TokenFault::Malformed => 0,
        TokenFault::UnknownKey(_) => 1,
        TokenFault::BadMac => 2,
        TokenFault::OutOfDate { .. } => 3,
    }
}
