//! Whether a returned original has a DKIM signature of one of our domains that verifies (RFC 6376).
//!
//! The header's signature covers the body's hash, and both are looked at apart: an original whose body did not come back,
//! or not whole, can still be known for ours by its signed header fields. Only keys of our own domains are asked for, so a
//! stranger's message makes no query but to our own zones, and no more than [`questions`](super::questions) allow. An expired signature counts: bounces are late.

use std::time::Duration;

use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::system_conf::read_system_conf;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::{AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters};
use tokio::time::{Instant, timeout};

use edge_core::message::header::fields;
use edge_core::watch::Verified;

use super::original::header_section;
use super::questions::{KEY_KEPT_MIN, Lack, Leave, Questions};

/// Signatures of ours that are looked at, a message.
const SIGNATURES_MAX: usize = 4;

/// Signature fields of a message that is looked at, whosever they are: the body is hashed for each way in which one of
/// them asks for it. Real mail has a few; who writes more hides only his own message.
const FIELDS_MAX: usize = 16;

/// How long the DNS may take for one key. The server of a test answers when the test's only thread comes to it.
const DNS_PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });

/// Answers of the DNS that are kept, each as long as it says.
const ANSWERS_MAX: u64 = 256;

/// How long what `/etc/resolv.conf` said is believed.
const RESOLVER_AGE_MAX: Duration = Duration::from_secs(600);

/// What is known of one signature of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Signature {
    /// It verifies.
    Verifies {
        /// `d=`, in lowercase.
        domain: String,
        /// `s=`
        selector: String,
        /// Over what.
        over: Verified,
    },
    /// A fault of the DNS kept it from being told.
    Unclear,
    /// The DNS was not asked: too many names were new.
    NotAsked,
}

/// Asks the DNS for keys, and verifies.
#[derive(Default)]
pub(super) struct Verifier {
    authenticator: Option<(Instant, MessageAuthenticator)>,
    questions: Questions,
    /// The server that a test asks instead of the system's.
    #[cfg(test)]
    server: Option<std::net::SocketAddr>,
}

impl Verifier {
    /// The strongest that can be said of the signatures of ours. `None`: there is none that verifies.
    pub(super) async fn verify(
        &mut self,
        original: &[u8],
        is_ours: &(dyn Fn(&str) -> bool + Sync),
    ) -> Option<Signature> {
        if fields(header_section(original)).filter(|(name, _)| is_signature(name)).count() > FIELDS_MAX {
            return None;
        }
        // Not strict: a signature may leave the body's end out (`l=`).
        let mut message = AuthenticatedMessage::parse_with_opts(original, None, false)?;
        // Signatures that cannot be parsed would come first among the results, and hide what is said of ours.
        message.errors.clear();
        let hashes = message.body_hashes.clone();
        let signatures = std::mem::take(&mut message.dkim_headers);
        let ours = signatures.into_iter().filter(|header| is_ours(&header.header.d.to_ascii_lowercase()));
        let (mut best, mut asked) = (None, 0);
        for mut header in ours.take(SIGNATURES_MAX) {
            let signature = &mut header.header;
            let algorithm = HashAlgorithm::from(signature.a);
            let computed = hashes.iter().find(|(canonicalization, hash, length, _)| {
                *canonicalization == signature.cb && *hash == algorithm && *length == signature.l
            });
            let whole = computed.is_some_and(|(_, _, _, computed)| *computed == signature.bh);
            // The signature is verified over the header with the body's hash as it claims it; whether that is the body's
            // is known already. Late, and without asking where reports are wanted, or who else may sign.
            message.body_hashes = vec![(signature.cb, algorithm, signature.l, signature.bh.clone())];
            (signature.x, signature.r, signature.atps) = (0, false, None);
            let (domain, selector) = (signature.d.to_ascii_lowercase(), signature.s.clone());
            let name = format!("{selector}._domainkey.{domain}").to_ascii_lowercase();
            message.dkim_headers = vec![header];
            match self.told(&message, name, &mut asked).await {
                Told::Verifies if whole => {
                    return Some(Signature::Verifies { domain, selector, over: Verified::Message });
                }
                Told::Verifies => {
                    best = Some(Signature::Verifies { domain, selector, over: Verified::Header });
                }
                Told::Unclear => best = best.or(Some(Signature::Unclear)),
                Told::NotAsked => best = best.or(Some(Signature::NotAsked)),
                Told::NoKey | Told::No => {}
            }
        }
        best
    }

    /// What is said of the message's only signature, whose key has this name. `asked`: what this message cost before.
    async fn told(&mut self, message: &AuthenticatedMessage<'_>, name: String, asked: &mut u32) -> Told {
        let begin = Instant::now();
        match self.questions.leave(&name, asked, begin) {
            Leave::Ask => {}
            Leave::Known(Lack::NoKey) => return Told::NoKey,
            Leave::Known(Lack::Silence) => return Told::Unclear,
            Leave::Spent => return Told::NotAsked,
        }
        let told = self.result(message).await;
        let now = Instant::now();
        let took = now.duration_since(begin);
        match told {
            Told::Verifies | Told::No => self.questions.key(name, now),
            Told::NoKey => self.questions.lack(name, Lack::NoKey, took, now),
            Told::Unclear => self.questions.lack(name, Lack::Silence, took, now),
            Told::NotAsked => {}
        }
        told
    }

    /// What verifying it says.
    async fn result(&mut self, message: &AuthenticatedMessage<'_>) -> Told {
        let authenticator = match self.authenticator().await {
            Ok(authenticator) => authenticator,
            Err(error) => {
                tracing::warn!("the DNS cannot be asked for DKIM keys: {error}");
                return Told::Unclear;
            }
        };
        let Ok(outputs) = timeout(DNS_PATIENCE, authenticator.verify_dkim(Parameters::new(message))).await
        else {
            return Told::Unclear;
        };
        outputs.first().map_or(Told::NoKey, |output| match output.result() {
            DkimResult::Pass => Told::Verifies,
            DkimResult::Neutral(error)
            | DkimResult::Fail(error)
            | DkimResult::PermError(error)
            | DkimResult::TempError(error) => Told::of(error),
            DkimResult::None => Told::NoKey,
        })
    }

    async fn authenticator(&mut self) -> Result<&MessageAuthenticator, NetError> {
        let fresh = self.authenticator.take().filter(|(made, _)| made.elapsed() < RESOLVER_AGE_MAX);
        let made = match fresh {
            Some(fresh) => fresh,
            #[cfg(test)]
            None if self.server.is_some() => (Instant::now(), tests::asking(self.server)?),
            None => (Instant::now(), authenticator()?),
        };
        Ok(&self.authenticator.insert(made).1)
    }
}

fn is_signature(name: &[u8]) -> bool {
    ["DKIM-Signature", "ARC-Message-Signature"]
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

/// One that asks as the system's `resolv.conf` says.
fn authenticator() -> Result<MessageAuthenticator, NetError> {
    let (config, options) = read_system_conf()?;
    let mut bounded = ResolverOpts::default();
    bounded.timeout = options.timeout.min(DNS_PATIENCE);
    bounded.attempts = options.attempts;
    bounded.cache_size = ANSWERS_MAX;
    bounded.positive_min_ttl = Some(KEY_KEPT_MIN);
    MessageAuthenticator::new(config, bounded)
}

/// What came of one signature.
enum Told {
    Verifies,
    /// The key says that it does not.
    No,
    /// There is no key.
    NoKey,
    Unclear,
    NotAsked,
}

impl Told {
    /// What an error says.
    fn of(error: &Error) -> Self {
        match error {
            Error::Dns(DnsError::Resolver(_)) => Self::Unclear,
            Error::Dns(DnsError::RecordNotFound(code))
                if !matches!(*code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Self::Unclear
            }
            Error::Dns(_) => Self::NoKey,
            // Somebody else's enum, and all the rest says that it does not verify.
            _ => Self::No,
        }
    }
}

#[cfg(test)]
#[path = "dkim_tests.rs"]
mod tests;
