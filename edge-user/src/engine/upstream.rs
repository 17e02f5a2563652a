//! The edge as an SMTP client (RFC 5321): one connection to an upstream or a next hop.
//!
//! Used alike by the inbound side (towards the operator's server) and the outbound side (towards the next hop):
//! ```text
//! open ─► begin(MAIL) ─► rcpt ... ─► data (354) ─► send ... ─► finish (the final dot) ─► next begin, or quit
//! ```
//! Commands that can be said at once go together in one write ([`queue`]); between transactions a connection is kept for
//! the next one, whoever brings it ([`kept`]); where a server is lost before anything is at stake, another takes its place
//! ([`attempts`]).
//!
//! Each reply is handed out whole and as it came, so that it can be passed on to the client. What is no reply is an
//! [`UpstreamError`], which knows the stage: lost before the final dot, the message is surely not delivered and the
//! client may try again; lost after it, it is in doubt (RFC 1047). Dropping an [`Upstream`] before
//! [`Upstream::finish`] is how a message is abandoned: without the final dot no server delivers it.

pub(crate) mod attempts;
mod fault;
pub(crate) mod kept;
mod queue;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use edge_core::smtp::{Capabilities, UpstreamReply, read_reply};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

pub(crate) use self::fault::{Fault, Patience, Stage, UpstreamError};
use self::queue::Queue;
use super::clock::Since;
use super::pool::Pool;
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{Connector, Opened};

/// Pieces written by one call of the kernel.
const PIECES_MAX: usize = 64;
/// Pieces that go out together with the final dot, that one included.
const FINAL_PIECES_MAX: usize = 4;

/// Room for each read of replies, in octets: most replies take one.
const READ_BYTES: usize = 512;

/// What is read of a refusal that nobody asked for, in octets, and one read more.
const LAST_WORDS_BYTES_MAX: usize = 8 << 10;

/// One connection to an upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    stream: Stream<Opened>,
    /// Octets read; the first `replied` of them are the reply that was handed out last.
    input: BytesMut,
    replied: usize,
    capabilities: Capabilities,
    /// How it calls itself in the greeting and in its answer to EHLO (RFC 5321 sections 4.2 and 4.1.1.1).
    names: [String; 2],
    patience: Patience,
    /// It was kept, and said nothing since: it may be frozen, or its host gone.
    is_doubted: bool,
    /// The last two octets of the body sent so far.
    tail: [u8; 2],
    /// A part of a body was sent, and the final dot not.
    in_body: bool,
    /// Commands whose replies were not read.
    queue: Queue,
    /// Transactions begun on this connection.
    transactions: u32,
    /// Messages it took on this connection, and refusals since the last.
    messages: u32,
    refusals: u32,
    /// When it was opened, and by which settings ([`Upstreams::settings`](super::upstreams::Upstreams::settings)).
    since: Since,
    settings: usize,
    /// Its place among the connections that the upstream may be given, where it needs one.
    place: Option<OwnedSemaphorePermit>,
}

impl Upstream {
    /// Connects, waits for the greeting, says EHLO (HELO where it is not known), and goes over to TLS as `tls` says,
    /// which takes record buffers from `pool`.
    pub(crate) async fn open(
        address: SocketAddr,
        hostname: &str,
        patience: Patience,
        tls: Option<(&Connector, &Arc<Pool>)>,
    ) -> Result<Self, UpstreamError> {
        let fail = |fault| UpstreamError { address, stage: Stage::Connect, fault };
        let socket = match timeout(patience.connect, TcpStream::connect(address)).await {
            Ok(connected) => connected.map_err(|error| fail(Fault::Io(error)))?,
            Err(_) => return Err(fail(Fault::TimedOut(patience.connect))),
        };
        // Commands are small and each waits for its reply. A socket without the option works, only slower.
        let _ = socket.set_nodelay(true);
        let mut upstream = Self {
            address,
            stream: Stream::clear(Socket::Tokio(socket)),
            input: BytesMut::new(),
            replied: 0,
            capabilities: Capabilities::default(),
            names: [String::new(), String::new()],
            patience,
            is_doubted: false,
            tail: *b"\r\n",
            in_body: false,
            queue: Queue::default(),
            transactions: 0,
            messages: 0,
            refusals: 0,
            since: Since::now(),
            settings: 0,
            place: None,
        };
        let greeting = upstream.reply(Stage::Greeting, patience.reply).await?;
        let (greeting, name) = (greeting.code, name_in(greeting.raw));
        upstream.expect(Stage::Greeting, greeting)?;
        upstream.names[0] = name;
        upstream.hello(hostname).await?;
        if let Some((connector, pool)) = tls {
            upstream.start_tls(connector, pool, hostname).await?;
        }
        Ok(upstream)
    }

    /// EHLO, or HELO where it is not known: what it offers now.
    async fn hello(&mut self, hostname: &str) -> Result<(), UpstreamError> {
        let ehlo = self.command(Stage::Hello, &[b"EHLO ", hostname.as_bytes()]).await?;
        match ehlo.code {
            200..=299 => {
                let (capabilities, name) = (Capabilities::of_ehlo(ehlo.raw), name_in(ehlo.raw));
                self.capabilities = capabilities;
                self.names[1] = name;
                Ok(())
            }
            // It does not know EHLO (RFC 5321 section 3.2).
            500..=599 => {
                let helo = self.command(Stage::Hello, &[b"HELO ", hostname.as_bytes()]).await?;
                let (helo, name) = (helo.code, name_in(helo.raw));
                self.capabilities = Capabilities::default();
                self.names[1] = name;
                self.expect(Stage::Hello, helo)
            }
            code => self.expect(Stage::Hello, code),
        }
    }

    /// STARTTLS (RFC 3207). What it said before in clear, anybody may have said: its offer is asked for anew.
    async fn start_tls(
        &mut self,
        connector: &Connector,
        pool: &Arc<Pool>,
        hostname: &str,
    ) -> Result<(), UpstreamError> {
        let stage = Stage::StartTls;
        if !self.capabilities.starttls {
            let allowed = connector.may_be_clear();
            return if allowed { Ok(()) } else { Err(self.error(stage, Fault::NoTls)) };
        }
        match self.command(stage, &[b"STARTTLS"]).await?.code {
            220 => {}
            code @ 400..=599 if code != 421 => {
                let allowed = connector.may_be_clear();
                return if allowed { Ok(()) } else { Err(self.error(stage, Fault::TlsRefused(code))) };
            }
            code => return Err(self.error(stage, Fault::Unwilling(code))),
        }
        // What stands behind the 220 came in clear.
        self.input.clear();
        self.replied = 0;
        let side = connector
            .begin()
            .map_err(|error| self.error(stage, Fault::Handshake(io::Error::other(error))))?;
        match timeout(connector.patience, self.stream.secure(side, pool)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.error(stage, Fault::Handshake(error))),
            Err(_) => return Err(self.error(stage, Fault::TimedOut(connector.patience))),
        }
        // In TLS 1.3 a server says only now that it does not like the handshake.
        self.hello(hostname).await.map_err(|error| UpstreamError { stage, ..error })
    }

    /// Whether what is said to it goes by TLS.
    pub(crate) fn is_secured(&self) -> bool {
        self.stream.side().is_some()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has this place among the upstream's connections, as long as it is open. It was opened by these settings.
    pub(super) fn holds(&mut self, place: OwnedSemaphorePermit, settings: usize) {
        self.place = Some(place);
        self.settings = settings;
    }

    /// What it offered in its EHLO reply.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// How it calls itself: in its greeting, and in its answer to EHLO. Empty where it does not.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// How it calls itself.
    pub(crate) fn name(&self) -> &str {
        self.names.iter().find(|name| !name.is_empty()).map_or("", String::as_str)
    }

    /// Whether it calls itself so. Two hosts of one name take each other for a loop.
    pub(crate) fn is_called(&self, hostname: &str) -> bool {
        self.names.iter().any(|name| name.eq_ignore_ascii_case(hostname))
    }

    /// Whether a transaction was begun here before: then a connection that turns out closed at MAIL is no fault of
    /// the upstream (it may end idle ones), and a new one may be tried.
    pub(crate) fn is_reused(&self) -> bool {
        self.transactions > 1
    }

    /// MAIL: begins a transaction. `sender` is what stands between the angle brackets.
    pub(crate) async fn begin(
        &mut self,
        sender: &[u8],
        params: &[u8],
    ) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.queue_mail(sender, params)?;
        self.answer().await
    }

    /// RCPT. `recipient` is what stands between the angle brackets.
    pub(crate) async fn rcpt(
        &mut self,
        recipient: &[u8],
        params: &[u8],
    ) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.queue_rcpt(recipient, params)?;
        self.answer().await
    }

    /// DATA, where it was not queued before. Only after a 354 may the body be sent.
    pub(crate) async fn data(&mut self) -> Result<UpstreamReply<'_>, UpstreamError> {
        if self.queue.is_empty() {
            self.queue_data()?;
        }
        self.answer().await
    }

    /// Whether it waits for the rest of a body, in which no command is understood.
    pub(crate) fn is_in_body(&self) -> bool {
        self.in_body
    }

    /// RSET: forgets an open transaction.
    pub(crate) async fn reset(&mut self) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.command(Stage::Reset, &[b"RSET"]).await
    }

    /// Sends pieces of the message, as they stand on the wire (dots stuffed), without copying them.
    pub(crate) async fn send(&mut self, pieces: &[&[u8]]) -> Result<(), UpstreamError> {
        self.in_body = true;
        for piece in pieces {
            self.note_tail(piece);
        }
        self.write(Stage::Body, pieces).await
    }

    /// Sends the last pieces of the message and the final dot, and waits for the reply. The message is on the upstream's
    /// side once the whole dot is on its way; before that it is surely not delivered.
    pub(crate) async fn finish(&mut self, last: &[&[u8]]) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.still_there()?;
        self.in_body = true;
        for piece in last {
            self.note_tail(piece);
        }
        let dot: &[u8] = if self.tail == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" };
        let mut pieces = [dot; FINAL_PIECES_MAX];
        let count = last.len().min(FINAL_PIECES_MAX - 1);
        let (early, late) = last.split_at(last.len() - count);
        self.write(Stage::Body, early).await?;
        pieces[..count].copy_from_slice(late);
        self.write(Stage::Body, &pieces[..=count]).await?;
        self.in_body = false;
        let code = self.reply(Stage::FinalDot, self.patience.final_dot()).await?.code;
        if code / 100 == 2 {
            (self.messages, self.refusals) = (self.messages.saturating_add(1), 0);
        }
        self.last_reply(Stage::FinalDot)
    }

    /// A server that hung up, or says something before it was asked, does not wait for the final dot: the message is
    /// surely not delivered.
    fn still_there(&mut self) -> Result<(), UpstreamError> {
        self.forget_reply();
        self.input.reserve(READ_BYTES);
        let fault = match self.stream.try_read_buf(&mut self.input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => Fault::Io(error),
            Ok(0) => Fault::Closed,
            Ok(_) => Fault::Unasked,
        };
        Err(self.error(Stage::Body, fault))
    }

    /// After a failed [`Self::send`] or [`Self::finish`]: the refusal that the upstream may have sent before it stopped reading.
    pub(crate) fn last_words(&mut self) -> Option<UpstreamReply<'_>> {
        self.forget_reply();
        while self.input.len() < LAST_WORDS_BYTES_MAX
            && matches!(self.stream.try_read_buf(&mut self.input), Ok(1..))
        {
            self.input.reserve(READ_BYTES);
        }
        read_reply(&self.input).ok().flatten().filter(|reply| reply.code >= 400)
    }

    /// Says goodbye and does not wait for the answer.
    pub(crate) async fn quit(mut self) {
        // Whatever happens now concerns no message.
        let _ = timeout(Duration::from_secs(1), self.stream.write_all(b"QUIT\r\n")).await;
        let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }

    /// Sends one command line, given in parts and without its CRLF, and waits for the reply.
    pub(crate) async fn command(
        &mut self,
        stage: Stage,
        parts: &[&[u8]],
    ) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.queue_line(stage, parts)?;
        self.answer().await
    }

    async fn reply(&mut self, stage: Stage, patience: Duration) -> Result<UpstreamReply<'_>, UpstreamError> {
        self.forget_reply();
        // As long as a new connection would be waited for, which is what takes its place.
        let patience = if self.is_doubted { patience.min(self.patience.connect) } else { patience };
        match timeout(patience, self.fill()).await {
            Ok(Ok(length)) => (self.replied, self.is_doubted) = (length, false),
            Ok(Err(fault)) => return Err(self.error(stage, fault)),
            Err(_) => return Err(self.error(stage, Fault::TimedOut(patience))),
        }
        if self.input.first().is_some_and(|digit| *digit >= b'4') {
            self.refusals = self.refusals.saturating_add(1);
        }
        self.last_reply(stage)
    }

    /// The reply that was read last.
    fn last_reply(&self, stage: Stage) -> Result<UpstreamReply<'_>, UpstreamError> {
        match read_reply(&self.input) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) | Err(_) => Err(self.error(stage, Fault::NotSmtp)),
        }
    }

    /// Reads until a whole reply stands in the input; its length.
    async fn fill(&mut self) -> Result<usize, Fault> {
        loop {
            match read_reply(&self.input) {
                Ok(Some(reply)) => return Ok(reply.raw.len()),
                // `read_reply` bounds how long this goes on.
                Ok(None) => {}
                Err(_) => return Err(Fault::NotSmtp),
            }
            // Where the replies before were taken off the front, their room is used again.
            self.input.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(_) => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    async fn write(&mut self, stage: Stage, pieces: &[&[u8]]) -> Result<(), UpstreamError> {
        for some in pieces.chunks(PIECES_MAX) {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            for (slice, piece) in slices.iter_mut().zip(some) {
                *slice = IoSlice::new(piece);
            }
            let mut left = &mut slices[..some.len()];
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match timeout(self.patience.reply, self.stream.write_vectored(left)).await {
                    Ok(Ok(0)) => return Err(self.error(stage, Fault::Closed)),
                    Ok(Ok(count)) => IoSlice::advance_slices(&mut left, count),
                    Ok(Err(error)) => return Err(self.error(stage, Fault::Io(error))),
                    Err(_) => return Err(self.error(stage, Fault::TimedOut(self.patience.reply))),
                }
            }
        }
        Ok(())
    }

    fn forget_reply(&mut self) {
        self.input.advance(std::mem::take(&mut self.replied));
    }

    fn note_tail(&mut self, piece: &[u8]) {
        match piece {
            [] => {}
            [one] => self.tail = [self.tail[1], *one],
            [.., before, last] => self.tail = [*before, *last],
        }
    }

    fn expect(&self, stage: Stage, code: u16) -> Result<(), UpstreamError> {
        if code / 100 == 2 { Ok(()) } else { Err(self.error(stage, Fault::Unwilling(code))) }
    }

    fn error(&self, stage: Stage, fault: Fault) -> UpstreamError {
        UpstreamError { address: self.address, stage, fault }
    }
}

/// The name that a greeting or a reply to EHLO begins with.
fn name_in(raw: &[u8]) -> String {
    let text = raw.get(4..).unwrap_or_default();
    let name = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    String::from_utf8_lossy(name.strip_suffix(b".").unwrap_or(name)).into_owned()
}
