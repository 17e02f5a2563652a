//! What can go wrong with an upstream, where, and how long it may take.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an upstream may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the connection.
    pub(crate) connect: Duration,
    /// For a reply, and for each write; the final dot's reply has twice that.
    pub(crate) reply: Duration,
}

impl Patience {
    /// How long to wait for the reply to the final dot (RFC 5321 section 4.5.3.2.6).
    pub(crate) fn final_dot(self) -> Duration {
        self.reply.saturating_mul(2)
    }
}

/// Where in the dialogue something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Mail,
    Rcpt,
    Data,
    Body,
    FinalDot,
    Reset,
}

/// What went wrong with an upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it closed the connection")]
    Closed,
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Io(io::Error),
    #[error("its reply is not SMTP")]
    NotSmtp,
    #[error("it answers what it was not asked")]
    Unasked,
    /// It does not serve, and says this code: as its greeting, or as an answer.
    #[error("it answers {0}")]
    Unwilling(u16),
    /// It is to be spoken to by TLS, and does not offer it.
    #[error("it offers no STARTTLS, and mail for it may not go in clear")]
    NoTls,
    /// The same, and it answers STARTTLS with this code.
    #[error("it answers STARTTLS with {0}, and mail for it may not go in clear")]
    TlsRefused(u16),
    #[error("TLS: {0}")]
    Handshake(io::Error),
    /// What it should be sent has a CR or LF in it.
    #[error("a line to be sent holds a CR or LF")]
    BrokenLine,
    /// As many connections to it are open as there may be.
    #[error("no place among its connections for {0:?}: see upstream_connections_max")]
    Full(Duration),
}

/// An upstream that could not do its work; what it *said* is no error but a reply.
#[derive(Debug, thiserror::Error)]
#[error("upstream {address}, at {stage:?}: {fault}")]
pub(crate) struct UpstreamError {
    pub(crate) address: SocketAddr,
    pub(crate) stage: Stage,
    pub(crate) fault: Fault,
}

impl UpstreamError {
    /// It answers that it is closing (421), or something else than was asked.
    pub(crate) fn unwilling(address: SocketAddr, stage: Stage, code: u16) -> Self {
        Self { address, stage, fault: Fault::Unwilling(code) }
    }

    /// Whether the message may have been delivered all the same (RFC 1047).
    pub(crate) fn in_doubt(&self) -> bool {
        self.stage == Stage::FinalDot
    }
}
