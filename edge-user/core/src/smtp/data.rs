//! The message on the wire: dots, line ends and where it ends (RFC 5321 section 4.1.1.4, 4.5.2).
