//! A plain SMTP client: says what the test tells it, and hands back every reply.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{Host, Lab};

/// How long a reply may take.
const REPLY: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(60);

/// A reply, with all its lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of its lines, joined by line feeds.
    pub text: String,
}

impl Reply {
    /// Whether it begins with this, as in `"550 5.7.1"`.
    #[must_use]
    pub fn is(&self, beginning: &str) -> bool {
        self.to_string().starts_with(beginning)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// A session.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    /// The server's greeting.
    pub greeting: Reply,
}

impl Client {
    /// Connects from a host (and source address) and reads the greeting.
    ///
    /// # Errors
    /// When there is no connection or no greeting.
    pub fn connect(lab: &Lab, host: Host, from: Option<IpAddr>, to: SocketAddr) -> Result<Self> {
        let stream = lab.connect(host, from, to, CONNECT)?;
        stream.set_read_timeout(Some(REPLY))?;
        Self::over(stream)
    }

    /// Reads the greeting of a connection that is there, with its own timeouts.
    ///
    /// # Errors
    /// When there is no greeting.
    pub fn over(stream: TcpStream) -> Result<Self> {
        let mut stream = BufReader::new(stream);
        let greeting = read_reply(&mut stream).context("waiting for the greeting")?;
        Ok(Self { stream, greeting })
    }

    /// Sends a line and reads the reply.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply().with_context(|| format!("after {line:?}"))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// When the connection ends, or what comes is no reply.
    pub fn reply(&mut self) -> Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// Sends a message (its lines end in LF or CRLF) with dots doubled and the final dot, after a 354.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn message(&mut self, message: &str) -> Result<Reply> {
        let mut bytes = Vec::with_capacity(message.len() + 64);
        for line in message.lines() {
            if line.starts_with('.') {
                bytes.push(b'.');
            }
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b".\r\n");
        self.send(&bytes)?;
        self.reply().context("after the final dot")
    }

    /// One whole transaction after EHLO; the reply is the one that ended it: to MAIL, RCPT, DATA or the final dot.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn transaction(&mut self, sender: &str, recipient: &str, message: &str) -> Result<(Stage, Reply)> {
        for (stage, line, wanted) in [
            (Stage::Mail, format!("MAIL FROM:<{sender}>"), 250),
            (Stage::Rcpt, format!("RCPT TO:<{recipient}>"), 250),
            (Stage::Data, "DATA".to_owned(), 354),
        ] {
            let reply = self.command(&line)?;
            if reply.code != wanted {
                return Ok((stage, reply));
            }
        }
        Ok((Stage::Dot, self.message(message)?))
    }
}

/// What a reply answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The MAIL command.
    Mail,
    /// The RCPT command.
    Rcpt,
    /// The DATA command.
    Data,
    /// The final dot.
    Dot,
}

/// Hands one message in and insists that it is taken.
///
/// # Errors
/// When it is not, with the reply that refused it.
pub fn submit(
    lab: &Lab,
    host: Host,
    to: SocketAddr,
    sender: &str,
    recipient: &str,
    message: &str,
) -> Result<()> {
    let mut client = Client::connect(lab, host, None, to)?;
    let hello = client.command("EHLO client.lab.example")?;
    ensure!(hello.code == 250, "{to} refused EHLO: {hello}");
    let (stage, reply) = client.transaction(sender, recipient, message)?;
    ensure!((stage, reply.code) == (Stage::Dot, 250), "{to} refused the message: {stage:?}: {reply}");
    client.command("QUIT")?;
    Ok(())
}

fn read_reply(stream: &mut impl BufRead) -> Result<Reply> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        let length = stream.read_line(&mut line).context("no reply")?;
        ensure!(length > 0, "the server closed the connection; so far it said {text:?}");
        let line = line.trim_end_matches(['\r', '\n']);
        let code = line
            .get(..3)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("no reply: {line:?}"))?;
        text.push_str(line.get(4..).unwrap_or(""));
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(Reply { code, text });
        }
        text.push('\n');
    }
}
