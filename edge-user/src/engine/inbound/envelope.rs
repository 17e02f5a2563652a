//! The envelope: who may be written to, what is taken off, and what is passed on to the upstream.

use std::sync::Arc;

use edge_core::mailbox::Mailbox;
use edge_core::signature::{Reservation, TagFault, TagName, tags};
use edge_core::smtp::{Address, Enhanced, Mail, Rcpt, Reply};

use crate::engine::client::Spare;
use crate::engine::{Edge, Route};

/// The reverse-path and its parameters, kept over the transaction.
#[derive(Debug)]
pub(super) struct Sender {
    /// As written between the angle brackets; empty is the null one.
    pub(super) path: Vec<u8>,
    /// Its parameters as written.
    pub(super) params: Vec<u8>,
}

impl Sender {
    pub(super) fn of(mail: &Mail<'_>) -> Self {
        Self { path: mail.sender.as_ref().map(path).unwrap_or_default(), params: mail.params.to_vec() }
    }

    pub(super) fn is_null(&self) -> bool {
        self.path.is_empty()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    /// The same, in its own memory: it is asked for no more.
    pub(super) fn take_text(&mut self) -> String {
        text(std::mem::take(&mut self.path))
    }

    /// The sender's mailbox, where it has one.
    pub(super) fn mailbox(&self) -> Option<Mailbox> {
        Address::parse(&self.path).as_ref().and_then(Mailbox::of)
    }
}

/// What a recipient's tag says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    /// It has none.
    None,
    /// Ours, and in date: a proof.
    Valid,
    /// Ours, but expired, or used as often as it may be: it proves nothing.
    Spent,
    /// It names a key of ours, which did not make it: a guess, if there are many.
    Wrong,
    /// It names no key of ours: another system's.
    Foreign,
}

impl Tag {
    fn not_ours(fault: TagFault) -> Self {
        match fault {
            TagFault::UnknownKey => Self::Foreign,
            TagFault::BadMac => Self::Wrong,
        }
    }
}

/// One recipient.
#[derive(Debug)]
pub(super) struct Recipient {
    /// What tokens are bound to.
    pub(super) mailbox: Mailbox,
    /// As the upstream gets it: as written, our tag taken off.
    pub(super) path: Vec<u8>,
    /// Its parameters as written.
    pub(super) params: Vec<u8>,
    /// Where it goes.
    pub(super) route: Route,
    /// Its tag.
    pub(super) tag: Tag,
    /// What a valid tag's uses are counted by.
    pub(super) tag_name: Option<TagName>,
    /// The use of its tag that this bounce has.
    pub(super) tag_use: Option<TagUse>,
}

/// A use of a tag, reserved: given back when dropped, unless the bounce arrived.
#[derive(Debug)]
pub(super) struct TagUse {
    edge: Arc<Edge>,
    name: Option<TagName>,
}

impl TagUse {
    /// `None`: the tag was used as often as it may be.
    pub(super) fn reserve(edge: &Arc<Edge>, name: TagName) -> Option<Self> {
        match edge.uses.reserve_tag(name, edge.now()) {
            Reservation::Reserved => Some(Self { edge: Arc::clone(edge), name: Some(name) }),
            Reservation::Overused => None,
        }
    }

    /// The bounce arrived: the use counts.
    pub(super) fn commit(mut self) {
        if let Some(name) = self.name.take() {
            self.edge.uses.commit_tag(name);
        }
    }
}

impl Drop for TagUse {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.edge.uses.release_tag(name);
        }
    }
}

const NOT_OURS: Reply = Reply::new(550, Enhanced(5, 7, 1), "Relaying denied: this is no domain of ours");
const NO_ROUTE: Reply =
    Reply::new(550, Enhanced(5, 7, 1), "Relaying denied: no %, ! or second @ in a local part");

impl Recipient {
    /// Reads a recipient. Only the operator's own domains get any further, whoever asks: the upstream may trust the
    /// edge's address, and would relay for it. For the same reason a local part may not hold another route.
    pub(super) fn of(
        edge: &Edge,
        rcpt: &Rcpt<'_>,
        null_sender: bool,
        spare: &mut Spare,
    ) -> Result<Self, Reply> {
        let Address { local, mut domain } = rcpt.recipient;
        if local.iter().any(|octet| matches!(octet, b'%' | b'!' | b'@')) {
            return Err(NO_ROUTE);
        }
        // RFC 5321 section 4.5.1: postmaster must be reachable without a domain.
        if domain.is_empty() && local.eq_ignore_ascii_case(b"postmaster") {
            domain = edge.domains.first().as_bytes();
        }
        let address = Address { local, domain };
        let mailbox = Mailbox::of_in(&address, std::mem::take(&mut spare.mailbox)).ok_or(NOT_OURS)?;
        let route = edge.domains.route(mailbox.domain()).ok_or(NOT_OURS)?;
        let tagged = tags::split(&address);
        let (tag, stripped) = match tagged {
            None => (Tag::None, address),
            Some(tagged) => match tags::verify(&edge.keys(), &tagged, edge.now()) {
                Ok(proof) if proof.expired => (Tag::Spent, tagged.address),
                Ok(_) => (Tag::Valid, tagged.address),
                // Proven by its token all the same, a bounce must reach the mailbox, which has no tag.
                Err(fault) => (Tag::not_ours(fault), if null_sender { tagged.address } else { address }),
            },
        };
        let tag_name = tagged.filter(|_| tag == Tag::Valid).map(|tagged| TagName::of(&mailbox, &tagged));
        let (mut path, params) = (std::mem::take(&mut spare.path), rcpt.params.to_vec());
        path.clear();
        path.reserve(stripped.local.len() + 1 + stripped.domain.len());
        for part in [stripped.local, b"@", stripped.domain] {
            path.extend_from_slice(part);
        }
        Ok(Self { mailbox, path, params, route, tag, tag_name, tag_use: None })
    }

    /// A bounce needs a use of its tag; a tag that has none left proves nothing.
    pub(super) fn use_tag(&mut self, edge: &Arc<Edge>) {
        self.tag_use = self.tag_name.and_then(|name| TagUse::reserve(edge, name));
        if self.tag == Tag::Valid && self.tag_use.is_none() {
            self.tag = Tag::Spent;
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    /// The same, in its own memory: it is asked for no more.
    pub(super) fn take_text(&mut self) -> String {
        text(std::mem::take(&mut self.path))
    }

    /// It was refused: its memory is for the next one.
    pub(super) fn into_spare(self) -> Spare {
        Spare { mailbox: self.mailbox.into_text(), path: self.path }
    }
}

fn text(path: Vec<u8>) -> String {
    String::from_utf8(path).unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned())
}

fn path(address: &Address<'_>) -> Vec<u8> {
    [address.local, b"@", address.domain].concat()
}
