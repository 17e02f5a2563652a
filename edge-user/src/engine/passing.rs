//! What goes between a client and an upstream, either way: parameters to it, its words back. Both directions use it.

use edge_core::smtp::{Capabilities, Enhanced, Reply, UpstreamReply};

use super::upstream::Stage;

/// The upstream cannot do it now: a fault of ours, so the client may come again.
pub(super) const UPSTREAM_LOST: Reply =
    Reply::new(451, Enhanced(4, 4, 1), "The mail server behind is not available, try again later");

/// What an upstream's reply means for the client.
pub(super) enum Said {
    /// 2xx, or the 354 that was asked for.
    Yes,
    /// 4xx or 5xx: may be passed on.
    No,
    /// 421, or what answers another question: the upstream is as good as lost.
    Lost,
}

impl Said {
    pub(super) fn of(stage: Stage, reply: &UpstreamReply<'_>) -> Self {
        match (stage, reply.code) {
            (_, 421) => Self::Lost,
            (Stage::Data, 354) => Self::Yes,
            (Stage::Data, 200..=399) => Self::Lost,
            (_, 200..=299) => Self::Yes,
            (_, 400..=599) => Self::No,
            (_, _) => Self::Lost,
        }
    }
}

/// What an upstream said, kept until the client can be told.
#[derive(Debug)]
pub(super) struct Words {
    code: u16,
    raw: Vec<u8>,
}

impl Words {
    pub(super) fn of(reply: &UpstreamReply<'_>) -> Self {
        Self { code: reply.code, raw: reply.raw.to_vec() }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn reply(&self) -> UpstreamReply<'_> {
        UpstreamReply { code: self.code, raw: &self.raw }
    }
}

/// The parameters of MAIL or RCPT that this upstream understands. What it does not offer is left out where the mail
/// can go without it.
///
/// # Errors
/// SMTPUTF8 cannot be left out (RFC 6531 section 3.4). It was offered because the upstream offered it before: for
/// now the client must try again, and finds it no more offered.
pub(super) fn params_for(offered: Capabilities, params: &[u8]) -> Result<Vec<u8>, Reply> {
    let mut kept = Vec::with_capacity(params.len());
    for param in params.split(|octet| *octet == b' ').filter(|param| !param.is_empty()) {
        let keyword = param.split(|octet| *octet == b'=').next().unwrap_or_default().to_ascii_uppercase();
        let keep = match keyword.as_slice() {
            b"SIZE" => offered.size.is_some(),
            b"BODY" => offered.eight_bit_mime,
            b"RET" | b"ENVID" | b"NOTIFY" | b"ORCPT" => offered.dsn,
            b"SMTPUTF8" if !offered.smtputf8 => {
                return Err(Reply::new(
                    451,
                    Enhanced(4, 3, 5),
                    "SMTPUTF8 is not available now, try again later",
                ));
            }
            b"SMTPUTF8" => true,
            // The session takes no others.
            _ => false,
        };
        if keep {
            if !kept.is_empty() {
                kept.push(b' ');
            }
            kept.extend_from_slice(param);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_upstream_offers_is_passed_on() {
        let none = Capabilities::default();
        let all = Capabilities { size: Some(0), eight_bit_mime: true, smtputf8: true, dsn: true, ..none };
        let mail = b"SIZE=100 body=8BITMIME RET=HDRS ENVID=x";
        assert_eq!(params_for(all, mail), Ok(mail.to_vec()));
        assert_eq!(params_for(none, mail), Ok(Vec::new()));
        assert_eq!(params_for(Capabilities { dsn: true, ..none }, mail), Ok(b"RET=HDRS ENVID=x".to_vec()));
        assert_eq!(params_for(none, b"SMTPUTF8").map_err(|reply| reply.code), Err(451));
        assert_eq!(params_for(none, b""), Ok(Vec::new()));
    }
}
