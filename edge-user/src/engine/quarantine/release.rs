//! A message on its way out of the quarantine: to its domain's upstream, as it would have come there at first.
//!
//! It leaves the quarantine only when the upstream said 2xx to its final dot. Where a crash comes between that and its
//! removal it is still there, and may be released twice; it is never lost.

use std::io::Read as _;
use std::sync::Arc;

use edge_core::mailbox::Mailbox;
use edge_core::message::ToWire;
use edge_core::smtp::UpstreamReply;

use super::head::{self, Opened};
use super::{Id, Quarantine, RELEASING};
use crate::engine::doubt::Doubt;
use crate::engine::passing::{Said, params_for};
use crate::engine::upstream::{Stage, Upstream, UpstreamError};
use crate::engine::{Edge, Route};

/// Octets that are read from disk at once.
const READ_BYTES: usize = 64 << 10;

/// What became of a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Released {
    /// The upstream took it, in these words; it is in the quarantine no more.
    Delivered(String),
    /// The upstream refused it, in these words; it is still there.
    Refused(String),
    /// It could not be done; it is still there.
    Failed(String),
    /// It is not there.
    NotThere,
}

/// Releases a message.
pub(crate) async fn release(edge: &Arc<Edge>, quarantine: &Quarantine, id: Id) -> Released {
    let Some(hand) = quarantine.take_in_hand(id) else {
        return Released::Failed(RELEASING.into());
    };
    let failed = |error: std::io::Error| Released::Failed(error.to_string());
    let item = match quarantine.find(id) {
        Ok(Some(item)) => item,
        Ok(None) => return Released::NotThere,
        Err(error) => return failed(error),
    };
    let mut opened = match head::open(&item.path) {
        Ok(opened) => opened,
        Err(error) => return failed(error),
    };
    let recipient = opened.head.recipient.clone();
    let Some(route) = route_to(edge, &recipient) else {
        return Released::Failed(format!("no [[domain]] of the configuration is that of {recipient}"));
    };
    let (words, doubt) = match send(edge, route, &mut opened).await {
        Ok(Sent::Yes(words, doubt)) => (words, doubt),
        Ok(Sent::No(words)) => return Released::Refused(words),
        Err(Fault::Ours(words)) => return Released::Failed(words),
        Err(Fault::Upstream(error)) => {
            edge.upstream_is_down(&error);
            let twice = if error.in_doubt() { "; it may have taken the message all the same" } else { "" };
            return Released::Failed(format!("{error}{twice}"));
        }
    };
    match quarantine.delete(&item, &hand) {
        // `false`: somebody else removed its file meanwhile; it is there no more either way.
        Ok(true | false) => {
            doubt.settle();
            edge.metrics.quarantine_released.add(1);
            Released::Delivered(words)
        }
        // The doubt is left open: it counts, and is logged.
        Err(error) => Released::Failed(format!(
            "the mail server took it ({words}), but it cannot be removed: {error}; delete it, do not release it again"
        )),
    }
}

fn route_to(edge: &Edge, recipient: &str) -> Option<Route> {
    edge.domains.route(Mailbox::parse(recipient)?.domain())
}

enum Sent {
    Yes(String, Doubt),
    No(String),
}

enum Fault {
    /// What we have is not fit to be sent.
    Ours(String),
    Upstream(UpstreamError),
}

impl From<UpstreamError> for Fault {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// The whole dialogue.
async fn send(edge: &Arc<Edge>, route: Route, opened: &mut Opened) -> Result<Sent, Fault> {
    let mut upstream = edge.open_first(edge.domains.servers(route)).await?;
    let head = opened.head.clone();
    let fit = |params: &str| params_for(upstream.capabilities(), params.as_bytes());
    let unfit = |reply: edge_core::smtp::Reply| Fault::Ours(format!("the mail server: {}", reply.text));
    let (mail, rcpt) = (fit(&head.mail_params).map_err(unfit)?, fit(&head.rcpt_params).map_err(unfit)?);
    let mut refused = refusal(Stage::Mail, &upstream.begin(head.sender.as_bytes(), &mail).await?);
    if refused.is_none() {
        refused = refusal(Stage::Rcpt, &upstream.rcpt(head.recipient.as_bytes(), &rcpt).await?);
    }
    if refused.is_none() {
        refused = refusal(Stage::Data, &upstream.data().await?);
    }
    if let Some(words) = refused {
        upstream.quit().await;
        return Ok(Sent::No(words));
    }
    send_body(&mut upstream, opened).await?;
    let doubt = Doubt::begin(edge, upstream.address(), head.recipient);
    let reply = match upstream.finish(&[]).await {
        Ok(reply) => reply,
        Err(error) if error.in_doubt() => return Err(error.into()),
        Err(error) => {
            doubt.settle();
            return Err(error.into());
        }
    };
    let (said, words) = (Said::of(Stage::FinalDot, &reply), text(&reply));
    upstream.quit().await;
    match said {
        Said::Yes => Ok(Sent::Yes(words, doubt)),
        Said::No | Said::Lost => {
            doubt.settle();
            Ok(Sent::No(words))
        }
    }
}

async fn send_body(upstream: &mut Upstream, opened: &mut Opened) -> Result<(), Fault> {
    let (mut to_wire, mut octets, mut wire) = (ToWire::default(), vec![0; READ_BYTES], Vec::new());
    loop {
        let count = match opened.message.read(&mut octets) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // Without a final dot nothing of it is delivered.
            Err(error) => return Err(Fault::Ours(format!("the message cannot be read: {error}"))),
        };
        wire.clear();
        to_wire.take(&octets[..count], &mut wire);
        if let Err(error) = upstream.send(&[&wire]).await {
            return match upstream.last_words() {
                Some(reply) => Err(Fault::Ours(format!("the mail server refused it: {}", text(&reply)))),
                None => Err(error.into()),
            };
        }
    }
}

/// The words of a reply that is no yes.
fn refusal(stage: Stage, reply: &UpstreamReply<'_>) -> Option<String> {
    (!matches!(Said::of(stage, reply), Said::Yes)).then(|| text(reply))
}

/// A reply in one line.
fn text(reply: &UpstreamReply<'_>) -> String {
    String::from_utf8_lossy(reply.raw).lines().collect::<Vec<_>>().join(" / ")
}
