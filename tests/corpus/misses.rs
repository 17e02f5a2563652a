//! The bounces that bring no token back, each with the reason.

/// Why a bounce brings no token back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// Nothing of the original's header comes back.
    NothingReturned,
    /// A few fields come back, written anew or picked by name.
    FieldsPicked,
    /// The file announces a copy of the original, which was taken out of it.
    CopyCutOff,
    /// It is an auto-reply or a complaint, and returns nothing.
    NoBounce,
    /// The original had no Message-ID, or it was taken out of the file.
    NoMessageId,
    /// It is a notification in JSON, which comes by another way than mail.
    Json,
}

impl Why {
    pub(crate) const ALL: [Self; 6] = [
        Self::NothingReturned,
        Self::FieldsPicked,
        Self::CopyCutOff,
        Self::NoBounce,
        Self::NoMessageId,
        Self::Json,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NothingReturned => "nothing of the original's header comes back",
            Self::FieldsPicked => "only a few picked fields come back",
            Self::CopyCutOff => "the copy of the original is announced and not there",
            Self::NoBounce => "no bounce, and nothing returned",
            Self::NoMessageId => "the original has no Message-ID",
            Self::Json => "a notification in JSON",
        }
    }
}

/// A file in which no token can come back.
pub(crate) struct Miss {
    pub(crate) file: &'static str,
    pub(crate) why: Why,
}

const fn miss(file: &'static str, why: Why) -> Miss {
    Miss { file, why }
}

pub(crate) const MISSES: &[Miss] = &[
    miss("bsd-lhost-amazonses-10.eml", Why::NothingReturned),
    miss("bsd-lhost-domino-01.eml", Why::NothingReturned),
    miss("dos-lhost-domino-01.eml", Why::NothingReturned),
    miss("bsd-lhost-exim-38.eml", Why::NothingReturned),
    miss("bsd-lhost-ezweb-03.eml", Why::NothingReturned),
    miss("bsd-lhost-ezweb-04.eml", Why::NothingReturned),
    miss("bsd-lhost-ezweb-07.eml", Why::NothingReturned),
    miss("bsd-lhost-ezweb-08.eml", Why::NothingReturned),
    miss("bsd-rfc3464-38.eml", Why::NothingReturned),
    miss("bsd-rhost-facebook-04.eml", Why::NothingReturned),
    miss("dos-lhost-exchange-01.eml", Why::FieldsPicked),
    miss("bsd-lhost-exchange2003-04.eml", Why::FieldsPicked),
    miss("bsd-lhost-imailserver-06.eml", Why::FieldsPicked),
    miss("bsd-lhost-mfilter-03.eml", Why::FieldsPicked),
    miss("bsd-lhost-mfilter-04.eml", Why::FieldsPicked),
    miss("bsd-rfc3464-39.eml", Why::FieldsPicked),
    miss("bsd-lhost-exim-07.eml", Why::CopyCutOff),
    miss("bsd-lhost-imailserver-04.eml", Why::CopyCutOff),
    miss("bsd-lhost-qmail-07.eml", Why::CopyCutOff),
    miss("bsd-lhost-x2-05.eml", Why::CopyCutOff),
    miss("bsd-rfc3464-36.eml", Why::CopyCutOff),
    miss("bsd-arf-26.eml", Why::NoBounce),
    miss("bsd-rfc3834-01.eml", Why::NoBounce),
    miss("bsd-rfc3834-03.eml", Why::NoBounce),
    miss("bsd-rfc3834-04.eml", Why::NoBounce),
    miss("dos-rfc3834-01.eml", Why::NoBounce),
];

/// Files for which the record proves nothing.
pub(crate) const RECORD_MISSES: &[(&str, Why)] = &[
    ("bsd-lhost-amazonses-09.eml", Why::Json),
    ("bsd-lhost-courier-01.eml", Why::NoMessageId),
    ("dos-lhost-courier-01.eml", Why::NoMessageId),
    ("bsd-lhost-office365-13.eml", Why::NoMessageId),
    ("bsd-lhost-opensmtpd-02.eml", Why::NoMessageId),
    ("bsd-lhost-opensmtpd-04.eml", Why::NoMessageId),
    ("bsd-lhost-postfix-02.eml", Why::NoMessageId),
    ("bsd-lhost-v5sendmail-02.eml", Why::NoMessageId),
    ("bsd-lhost-v5sendmail-03.eml", Why::NoMessageId),
    ("bsd-lhost-v5sendmail-05.eml", Why::NoMessageId),
];
