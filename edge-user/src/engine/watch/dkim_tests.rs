//! Signatures that mail-auth itself made, verified with keys from a scripted DNS server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use tokio::net::UdpSocket;

use edge_core::mailbox::Mailbox;
use edge_core::signature::{Key, Keys, tokens};
use edge_core::time::UnixMillis;
use edge_core::watch::Evidence;

use super::super::look::{Looking, Seen};
use super::super::questions::{QUESTIONS_PER_MINUTE_MAX, QUESTIONS_PER_SAMPLE_MAX};
use super::super::samples::Samples;
use super::*;
use crate::engine::clock::Still;

const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

const MESSAGE: &str = "From: shop@example.jp\r\nTo: ann@far.example\r\nSubject: your order\r\n\r\nHello\r\n";

/// What the DNS says to every question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dns {
    Key,
    /// The key of somebody else.
    OtherKey,
    NoSuchName,
    Fault,
    Silence,
}

pub(super) fn asking(server: Option<SocketAddr>) -> Result<MessageAuthenticator, NetError> {
    let server = server.expect("only called with one");
    let mut udp = ConnectionConfig::udp();
    udp.port = server.port();
    let name_server = NameServerConfig::new(server.ip(), true, vec![udp]);
    let mut options = ResolverOpts::default();
    (options.timeout, options.attempts) = (DNS_PATIENCE, 0);
    MessageAuthenticator::new(ResolverConfig::from_parts(None, vec![], vec![name_server]), options)
}

async fn verifier(dns: Dns) -> Verifier {
    counted(dns).await.0
}

/// A verifier, and the questions that came to the DNS server that it asks.
async fn counted(dns: Dns) -> (Verifier, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut question).await {
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = answer(dns, &question[..len]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    (Verifier { server: Some(server), ..Verifier::default() }, count)
}

/// RFC 1035 section 4.1: the question back, and one TXT record.
fn answer(dns: Dns, question: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let other = base64::engine::general_purpose::STANDARD.encode([9; 32]);
    let (code, text) = match dns {
        Dns::Key => (0, Some(format!("v=DKIM1; k=ed25519; p={PUBLIC}"))),
        Dns::OtherKey => (0, Some(format!("v=DKIM1; k=ed25519; p={other}"))),
        Dns::NoSuchName => (3, None),
        Dns::Fault => (2, None),
        Dns::Silence => return None,
    };
    let name_len = question[12..].iter().position(|octet| *octet == 0)? + 1;
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(text.is_some()), 0, 0, 0, 0]);
    out.extend(&question[12..12 + name_len + 4]);
    if let Some(text) = text {
        let len = u8::try_from(text.len()).unwrap();
        out.extend([0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, len + 1, len]);
        out.extend(text.as_bytes());
    }
    Some(out)
}

fn signed(domain: &str, expired: bool) -> String {
    use base64::Engine as _;
    let decode = |text| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let key = Ed25519Key::from_seed_and_public_key(&decode(SEED), &decode(PUBLIC)).unwrap();
    let signer = DkimSigner::from_key(key).domain(domain).selector("shop").headers(["From", "To", "Subject"]);
    let signer = if expired { signer.expiration(1) } else { signer };
    signer.sign(MESSAGE.as_bytes()).unwrap().to_header() + MESSAGE
}

async fn verified(dns: Dns, original: &str) -> Option<Signature> {
    let ours = |domain: &str| domain == "example.jp";
    verifier(dns).await.verify(original.as_bytes(), &ours).await
}

fn verifies(over: Verified) -> Option<Signature> {
    Some(Signature::Verifies { domain: "example.jp".into(), selector: "shop".into(), over })
}

#[tokio::test]
async fn what_was_verified_is_said_exactly() {
    let message = signed("example.jp", false);
    let header = message.split_once("\r\n\r\n").unwrap().0.to_owned() + "\r\n\r\n";
    assert_eq!(verified(Dns::Key, &message).await, verifies(Verified::Message));
    assert_eq!(verified(Dns::Key, &header).await, verifies(Verified::Header), "no body came back");
    let cut = &message[..message.len() - 4];
    assert_eq!(verified(Dns::Key, cut).await, verifies(Verified::Header), "the body was cut");
    let other = message.replace("your order", "my order");
    assert_eq!(verified(Dns::Key, &other).await, None, "a signed field was changed");
    assert_eq!(verified(Dns::Key, &other.replace("Hello", "Bye")).await, None);
    assert_eq!(verified(Dns::Key, &signed("Example.JP", true)).await, verifies(Verified::Message), "late");
}

#[tokio::test]
async fn a_key_that_does_not_fit_or_is_not_there_says_no() {
    let message = signed("example.jp", false);
    assert_eq!(verified(Dns::OtherKey, &message).await, None);
    assert_eq!(verified(Dns::NoSuchName, &message).await, None);
    assert_eq!(verified(Dns::Key, &signed("far.example", false)).await, None, "a stranger's signature");
    assert_eq!(verified(Dns::Key, MESSAGE).await, None, "no signature");
}

#[tokio::test]
async fn a_fault_of_the_dns_says_nothing() {
    let message = signed("example.jp", false);
    assert_eq!(verified(Dns::Fault, &message).await, Some(Signature::Unclear));
    let (mut verifier, asked) = counted(Dns::Silence).await;
    let verifying = verifier.verify(message.as_bytes(), &is_ours);
    assert_eq!(in_silence(&asked, verifying).await, Some(Signature::Unclear));
}

/// What comes of it when no answer does: once the question is there, the clock runs ahead to the end of the wait.
async fn in_silence<T>(asked: &AtomicUsize, verifying: impl Future<Output = T>) -> T {
    let hasten = async {
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
    };
    let (said, ()) = tokio::join!(verifying, hasten);
    tokio::time::resume();
    said
}

fn is_ours(domain: &str) -> bool {
    domain == "example.jp"
}

/// The same original as one of our own would write it, and another selector's name.
fn by_selector(message: &str, selector: &str) -> String {
    let other = message.replace("s=shop;", &format!("s={selector};"));
    assert_ne!(other, message);
    other
}

#[tokio::test]
async fn who_invents_selectors_cannot_make_us_ask_without_end() {
    let (mut verifier, asked) = counted(Dns::NoSuchName).await;
    // All within a minute, as the questions count it.
    let _still = Still::begin();
    let message = signed("example.jp", false);
    let (most, mut not_asked) = (QUESTIONS_PER_MINUTE_MAX as usize, 0);
    for n in 0..most + 40 {
        let original = by_selector(&message, &format!("x{n}"));
        match verifier.verify(original.as_bytes(), &is_ours).await {
            None => {}
            Some(Signature::NotAsked) => not_asked += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(not_asked >= 40 && asked.load(Ordering::Relaxed) <= most, "{not_asked} {asked:?}");
    let fields = |n: usize| message.split_once("From: ").unwrap().0.replace("s=shop;", &format!("s=y{n};"));
    let many = (0..SIGNATURES_MAX).map(fields).collect::<String>() + MESSAGE;
    let (mut verifier, asked) = counted(Dns::NoSuchName).await;
    assert_eq!(verifier.verify(many.as_bytes(), &is_ours).await, Some(Signature::NotAsked));
    assert_eq!(asked.load(Ordering::Relaxed), QUESTIONS_PER_SAMPLE_MAX as usize, "of one sample");
}

#[tokio::test]
async fn a_name_that_is_not_answered_is_not_asked_for_again_and_again() {
    for (dns, said) in [
        (Dns::NoSuchName, None),
        (Dns::Fault, Some(Signature::Unclear)),
        (Dns::Silence, Some(Signature::Unclear)),
    ] {
        let (mut verifier, asked) = counted(dns).await;
        let message = signed("example.jp", false);
        let verifying = verifier.verify(message.as_bytes(), &is_ours);
        let first = if dns == Dns::Silence { in_silence(&asked, verifying).await } else { verifying.await };
        assert_eq!(first, said);
        let first = asked.load(Ordering::Relaxed);
        for _ in 0..10 {
            assert_eq!(verifier.verify(message.as_bytes(), &is_ours).await, said, "{dns:?}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), first, "{dns:?}");
    }
}

#[tokio::test]
async fn our_own_keys_are_asked_for_whatever_strangers_spent() {
    let mut verifier = verifier(Dns::Key).await;
    let message = signed("example.jp", false);
    assert_eq!(verifier.verify(message.as_bytes(), &is_ours).await, verifies(Verified::Message));
    let begin = Instant::now();
    while verifier.questions.leave(&format!("{:?}", begin.elapsed()), &mut 0, begin) == Leave::Ask {}
    assert_eq!(verifier.verify(message.as_bytes(), &is_ours).await, verifies(Verified::Message));
}

#[tokio::test]
async fn only_a_few_signatures_of_a_message_are_looked_at() {
    let message = signed("example.jp", false);
    let broken = message.split_once("From: ").unwrap().0.replace("b=", "b=AAAA");
    let many = broken.repeat(SIGNATURES_MAX) + &message;
    assert_eq!(verified(Dns::Key, &many).await, None, "the right one is the last");
    let few = broken.repeat(SIGNATURES_MAX - 1) + &message;
    assert_eq!(verified(Dns::Key, &few).await, verifies(Verified::Message));
}

#[tokio::test]
async fn a_message_with_more_signatures_than_real_mail_has_is_not_hashed_for_each() {
    let message = signed("example.jp", false);
    let foreign = |n| {
        format!("dkim-signature: v=1; a=rsa-sha256; d=x.far.example; l={n}; s=s; h=From; bh=AAAA; b=AAAA\r\n")
    };
    let with = |count| (1..=count).map(foreign).collect::<String>() + &message;
    assert_eq!(verified(Dns::Key, &with(FIELDS_MAX - 1)).await, verifies(Verified::Message));
    assert_eq!(verified(Dns::Key, &with(FIELDS_MAX)).await, None);
}

#[tokio::test]
async fn a_signature_that_cannot_be_parsed_hides_none_of_ours() {
    let message = signed("example.jp", false);
    for broken in ["v=2; a=rsa-sha256; d=far.example; s=s; h=From; bh=AAAA; b=AAAA", "v=1; a=none", "x"] {
        let original = format!("DKIM-Signature: {broken}\r\n{message}");
        assert_eq!(verified(Dns::Key, &original).await, verifies(Verified::Message), "{broken}");
    }
}

#[tokio::test]
async fn an_original_with_a_token_of_ours_went_through_the_signer_and_one_with_any_other_did_not() {
    const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    let config = crate::engine::watch::tests::config();
    let domains = crate::engine::domains::Domains::of(&config).unwrap();
    let hosts = crate::engine::watch::hosts::OwnHosts::of(&config);
    let key = |id, secret| Key::new(id, [secret; 32], NOW.minus(100 * DAY));
    let retired = key(3, 3).retired_at(NOW.minus(30 * DAY));
    let keys = Keys::new(vec![key(1, 1), retired.clone()]).unwrap();
    let looking =
        Looking { domains: &domains, hosts: &hosts, keys: &keys, max_age: 16 * DAY, now: NOW, hasher: None };
    let samples = Samples::new();
    let recipient = Mailbox::parse("shop@example.jp").unwrap();
    let other = Mailbox::parse("ann@example.jp").unwrap();
    let token = |key: &Key, mailbox: &Mailbox, days_ago: u32| {
        let text = tokens::issue(key, mailbox, 1, NOW.minus(DAY * days_ago), [7; 6]);
        format!("Backstop-Token: {}\r\n", text.as_str())
    };
    let forged = "Backstop-Token: bs1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n".to_owned();
    for (name, token, is_found) in [
        ("none", String::new(), true),
        ("no token", "Backstop-Token: bs1.none\r\n".into(), true),
        ("forged", forged.clone(), true),
        ("by an unknown key", token(&key(2, 2), &recipient, 1), true),
        ("by another secret", token(&key(1, 9), &recipient, 1), true),
        ("made with a retired key, long after", token(&retired, &recipient, 1), true),
        ("quoted from another mailbox's mail", token(&key(1, 1), &other, 1), true),
        ("ours", token(&key(1, 1), &recipient, 1), false),
        ("ours, folded", token(&key(1, 1), &recipient, 1).replace(": ", ":\r\n "), false),
        ("ours, too old", token(&key(1, 1), &recipient, 40), false),
        ("ours, too old, its key retired since", token(&retired, &recipient, 40), false),
        ("ours beside a forged one", forged + &token(&key(1, 1), &recipient, 40), false),
    ] {
        let original = token + &signed("example.jp", false);
        let bounce = format!(
            "From: MAILER-DAEMON@far.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n{original}"
        );
        let from = std::net::IpAddr::from([198, 51, 100, 7]);
        let sample = samples.take(from, &recipient, [bounce.as_bytes()].into_iter()).unwrap();
        let seen = looking.look(&sample, &mut verifier(Dns::Key).await).await;
        assert_eq!(matches!(seen, Seen::Ours(Evidence::Dkim { .. }, _)), is_found, "{name}: {seen:?}");
    }
}

#[tokio::test]
async fn who_makes_up_tokens_cannot_make_us_ask_without_end_either() {
    let config = crate::engine::watch::tests::config();
    let domains = crate::engine::domains::Domains::of(&config).unwrap();
    let hosts = crate::engine::watch::hosts::OwnHosts::of(&config);
    let keys = Keys::new(vec![Key::new(1, [1; 32], UnixMillis(0))]).unwrap();
    let (max_age, now) = (Duration::from_secs(86_400), UnixMillis::from_secs(1_795_000_000));
    let looking = Looking { domains: &domains, hosts: &hosts, keys: &keys, max_age, now, hasher: None };
    let samples = Samples::new();
    let recipient = Mailbox::parse("shop@example.jp").unwrap();
    let (mut verifier, asked) = counted(Dns::NoSuchName).await;
    // All within a minute, as the questions count it.
    let _still = Still::begin();
    let message = signed("example.jp", false);
    let (most, mut not_asked) = (QUESTIONS_PER_MINUTE_MAX as usize, 0);
    for n in 0..most + 20 {
        let original = by_selector(&message, &format!("x{n}"));
        let token = format!("Backstop-Token: bs1.{n:036}\r\n");
        let bounce = format!("MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n{token}{original}");
        let sample =
            samples.take([198, 51, 100, 7].into(), &recipient, [bounce.as_bytes()].into_iter()).unwrap();
        not_asked += usize::from(matches!(looking.look(&sample, &mut verifier).await, Seen::NotAsked));
    }
    assert!(not_asked >= 20 && asked.load(Ordering::Relaxed) <= most, "{not_asked} {asked:?}");
}

#[tokio::test]
async fn a_cut_original_never_panics() {
    let message = signed("example.jp", false);
    let mut verifier = verifier(Dns::Key).await;
    for end in 0..message.len() {
        let _ = verifier.verify(&message.as_bytes()[..end], &|domain: &str| domain == "example.jp").await;
    }
}
