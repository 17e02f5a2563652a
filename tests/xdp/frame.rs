//! Frames, built layer by layer.

use std::net::IpAddr;

pub(crate) const SYN: u8 = 0x02;
pub(crate) const SYN_ACK: u8 = 0x12;
pub(crate) const ACK: u8 = 0x10;

const ETHERNET_BYTES: usize = 14;
const TCP: u8 = 6;

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extension {
    HopByHop,
    Routing,
    DestinationOptions,
    Authentication,
    /// The offset in octets, a multiple of 8, and "more fragments".
    Fragment(u16, bool),
}

impl Extension {
    fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::Fragment(..) => 44,
            Self::Authentication => 51,
            Self::DestinationOptions => 60,
        }
    }

    /// The header's octets, 16 of those whose length varies.
    fn bytes(self, next_header: u8) -> Vec<u8> {
        match self {
            Self::HopByHop | Self::Routing | Self::DestinationOptions => padded(next_header, 1, 16),
            Self::Authentication => padded(next_header, 2, 16),
            Self::Fragment(offset, more) => {
                let [high, low] = (offset | u16::from(more)).to_be_bytes();
                vec![next_header, 0, high, low, 0, 0, 0, 9]
            }
        }
    }
}

fn padded(next_header: u8, length: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![next_header, length];
    out.resize(bytes, 0);
    out
}

/// A frame to be.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    source: IpAddr,
    vlans: Vec<u16>,
    ether_type: Option<u16>,
    protocol: u8,
    port: u16,
    flags: u8,
    options_bytes: usize,
    fragment: u16,
    extensions: Vec<Extension>,
    version: Option<u8>,
    header_words: Option<u8>,
    total_length: Option<u16>,
    payload_length: Option<u16>,
    tcp_words: u8,
    tcp_bytes: usize,
}

/// A SYN from this address to this port.
pub(crate) fn syn(source: &str, port: u16) -> Frame {
    Frame {
        source: source.parse().expect("a test's address"),
        vlans: Vec::new(),
        ether_type: None,
        protocol: TCP,
        port,
        flags: SYN,
        options_bytes: 0,
        fragment: 0,
        extensions: Vec::new(),
        version: None,
        header_words: None,
        total_length: None,
        payload_length: None,
        tcp_words: 5,
        tcp_bytes: 20,
    }
}

impl Frame {
    pub(crate) fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }
    /// Puts VLAN tags of these EtherTypes before the rest, the outermost first.
    pub(crate) fn vlans(self, ether_types: &[u16]) -> Self {
        Self { vlans: ether_types.to_vec(), ..self }
    }
    pub(crate) fn ether_type(self, ether_type: u16) -> Self {
        Self { ether_type: Some(ether_type), ..self }
    }
    pub(crate) fn protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }
    /// IPv4 options: a multiple of 4, at most 40 octets.
    pub(crate) fn options(self, bytes: usize) -> Self {
        Self { options_bytes: bytes, ..self }
    }
    /// IPv4's flags and fragment offset, as they stand in the header.
    pub(crate) fn fragment(self, field: u16) -> Self {
        Self { fragment: field, ..self }
    }
    pub(crate) fn extensions(self, extensions: &[Extension]) -> Self {
        Self { extensions: extensions.to_vec(), ..self }
    }
    pub(crate) fn version(self, version: u8) -> Self {
        Self { version: Some(version), ..self }
    }
    pub(crate) fn header_words(self, words: u8) -> Self {
        Self { header_words: Some(words), ..self }
    }
    pub(crate) fn total_length(self, length: u16) -> Self {
        Self { total_length: Some(length), ..self }
    }
    pub(crate) fn payload_length(self, length: u16) -> Self {
        Self { payload_length: Some(length), ..self }
    }
    pub(crate) fn tcp_words(self, words: u8) -> Self {
        Self { tcp_words: words, ..self }
    }
    /// Ends the datagram, and the frame, after so many octets of its TCP header.
    pub(crate) fn tcp_bytes(self, bytes: usize) -> Self {
        Self { tcp_bytes: bytes, ..self }
    }

    /// The frame, all headers and nothing after them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for vlan in &self.vlans {
            out.extend(vlan.to_be_bytes());
            out.extend([0, 7]);
        }
        let ip = if self.source.is_ipv4() { 0x0800u16 } else { 0x86dd };
        out.extend(self.ether_type.unwrap_or(ip).to_be_bytes());
        assert_eq!(out.len(), ETHERNET_BYTES + 4 * self.vlans.len());
        match self.source {
            IpAddr::V4(source) => self.ipv4(&mut out, source.octets()),
            IpAddr::V6(source) => self.ipv6(&mut out, source.octets()),
        }
        self.tcp(&mut out);
        out
    }

    fn ipv4(&self, out: &mut Vec<u8>, source: [u8; 4]) {
        let header_bytes = 20 + self.options_bytes;
        let words = self.header_words.unwrap_or((header_bytes / 4) as u8);
        out.push(self.version.unwrap_or(4) << 4 | words);
        out.push(0);
        out.extend(self.total_length.unwrap_or((header_bytes + self.tcp_bytes) as u16).to_be_bytes());
        out.extend([0, 9]);
        out.extend(self.fragment.to_be_bytes());
        out.extend([64, self.protocol, 0, 0]);
        out.extend(source);
        out.extend([198, 18, 0, 1]);
        out.resize(out.len() + self.options_bytes, 1); // the option "no operation"
    }

    fn ipv6(&self, out: &mut Vec<u8>, source: [u8; 16]) {
        let mut extensions = Vec::new();
        let mut next_header = self.protocol;
        for extension in self.extensions.iter().rev() {
            extensions.splice(0..0, extension.bytes(next_header));
            next_header = extension.number();
        }
        out.extend([self.version.unwrap_or(6) << 4, 0, 0, 0]);
        out.extend(self.payload_length.unwrap_or((extensions.len() + self.tcp_bytes) as u16).to_be_bytes());
        out.extend([next_header, 64]);
        out.extend(source);
        out.extend([0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend(extensions);
    }

    fn tcp(&self, out: &mut Vec<u8>) {
        let header = out.len();
        out.extend(40_000u16.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        out.extend([0, 0, 0, 1, 0, 0, 0, 0, self.tcp_words << 4, self.flags, 255, 255, 0, 0, 0, 0]);
        out.truncate(header + self.tcp_bytes);
    }
}
