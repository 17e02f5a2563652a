//! Whom nginx's mail proxy asks, by HTTP, where a session goes (`auth_http`): always the same place.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Most octets of a request.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until the process is ended.
///
/// # Errors
/// The address cannot be had.
pub fn answer(listen: SocketAddr, then: SocketAddr) -> Result<Infallible> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen at {listen}"))?;
    loop {
        // Who does not ask in full gets no answer, and nginx says so.
        let _ = listener.accept().and_then(|(stream, _)| answer_one(stream, then));
    }
}

fn answer_one(stream: TcpStream, then: SocketAddr) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(std::io::Read::take(&stream, REQUEST_BYTES_MAX as u64));
    let mut line = String::new();
    // The request ends at an empty line; it has no body.
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let answer = format!(
        "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {}\r\nAuth-Port: {}\r\n\r\n",
        then.ip(),
        then.port()
    );
    (&stream).write_all(answer.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn whoever_asks_hears_where_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            std::thread::spawn(move || answer_one(listener.accept()?.0, "192.0.2.1:26".parse().unwrap()));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\nAuth-Method: none\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        server.join().unwrap().unwrap();
        assert!(answer.contains("Auth-Server: 192.0.2.1\r\nAuth-Port: 26\r\n"), "{answer}");
    }
}
