//! The messages: a bounce as a Postfix elsewhere returns it, of mail that never went out from here; and mail as people
//! write it. Both of a length that is asked for, to the octet.

/// What the 4 KB rows send, in octets.
pub const SMALL: usize = 4 << 10;
/// What the 10 MB row sends.
pub const LARGE: usize = 10 << 20;

/// A bounce for `mailbox`, of `bytes` octets, the final dot not counted.
///
/// # Panics
/// Where it would be shorter than what such a bounce cannot do without (about 2 KB).
#[must_use]
pub fn bounce(mailbox: &str, bytes: usize) -> Vec<u8> {
    let head = format!(
        "Received: by mail.far.example (Postfix)\r\n\tid 4D2C81F0A3; Tue, 24 Nov 2026 10:00:00 +0000 (UTC)\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000 (UTC)\r\n\
         From: MAILER-DAEMON@mail.far.example (Mail Delivery System)\r\n\
         Subject: Undelivered Mail Returned to Sender\r\n\
         To: {mailbox}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4D2C81F0A3.1795514400/mail.far.example\"\r\n\
         Message-Id: <20261124100000.4D2C81F0A3@mail.far.example>\r\n\r\n\
         This is a MIME-encapsulated message.\r\n\r\n\
         --4D2C81F0A3.1795514400/mail.far.example\r\nContent-Description: Notification\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n\
         This is the mail system at host mail.far.example.\r\n\r\n\
         I'm sorry to have to inform you that your message could not\r\nbe delivered to one or more recipients. It's attached below.\r\n\r\n\
         <gone@far.example>: host mx.far.example[192.0.2.9] said: 550 5.1.1 User unknown\r\n\r\n\
         --4D2C81F0A3.1795514400/mail.far.example\r\nContent-Description: Delivery report\r\n\
         Content-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mail.far.example\r\nArrival-Date: Tue, 24 Nov 2026 09:59:59 +0000 (UTC)\r\n\r\n\
         Final-Recipient: rfc822; gone@far.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Remote-MTA: dns; mx.far.example\r\nDiagnostic-Code: smtp; 550 5.1.1 User unknown\r\n\r\n\
         --4D2C81F0A3.1795514400/mail.far.example\r\nContent-Description: Undelivered Message\r\n\
         Content-Type: message/rfc822\r\n\r\n\
         Return-Path: <{mailbox}>\r\nReceived: from bot.example (unknown [203.0.113.7])\r\n\
         \tby mail.far.example (Postfix) with ESMTP id 1A2B3C4D5E\r\n\tfor <gone@far.example>; Tue, 24 Nov 2026 09:59:58 +0000 (UTC)\r\n\
         Message-ID: <0123456789abcdef@bot.example>\r\nDate: Tue, 24 Nov 2026 09:59:00 +0000\r\n\
         From: {mailbox}\r\nTo: gone@far.example\r\nSubject: an offer\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    );
    filled(head, "\r\n--4D2C81F0A3.1795514400/mail.far.example--\r\n", bytes)
}

/// Mail to `mailbox`, of `bytes` octets, the final dot not counted.
///
/// # Panics
/// Where it would be shorter than its header.
#[must_use]
pub fn mail(mailbox: &str, bytes: usize) -> Vec<u8> {
    let head = format!(
        "Received: from desk.sender.example (desk.sender.example [192.0.2.20])\r\n\
         \tby mail.sender.example (Postfix) with ESMTPSA id 5E4D3C2B1A\r\n\tfor <{mailbox}>; Tue, 24 Nov 2026 10:00:00 +0000 (UTC)\r\n\
         Message-ID: <fedcba9876543210@sender.example>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
         From: Somebody <somebody@sender.example>\r\nTo: {mailbox}\r\nSubject: lunch\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    );
    filled(head, "\r\n", bytes)
}

/// Lines of 78 octets between head and tail, so many that all of it has the length.
fn filled(head: String, tail: &str, bytes: usize) -> Vec<u8> {
    const LINE: &[u8] = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod temp\r\n";
    let mut message = head.into_bytes();
    let room = bytes.checked_sub(message.len() + tail.len()).expect("the length has room for the header");
    let end = message.len() + room;
    message.reserve(bytes - message.len());
    while end - message.len() >= 2 * LINE.len() {
        message.extend_from_slice(LINE);
    }
    // The rest in one line, of whatever length: at most two of them long.
    message.resize(end, b'x');
    message.extend_from_slice(tail.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_length_and_nothing_that_ends_them() {
        for message in
            [bounce("u1@example.jp", SMALL), mail("u1@example.jp", SMALL), mail("u1@example.jp", LARGE)]
        {
            assert!([SMALL, LARGE].contains(&message.len()));
            assert!(message.ends_with(b"\r\n"));
            let text = String::from_utf8(message).unwrap();
            // No line needs a dot put before it, and none is longer than RFC 5321 section 4.5.3.1.6 allows.
            assert!(text.split("\r\n").all(|line| !line.starts_with('.') && line.len() <= 998));
            assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        }
    }
}
