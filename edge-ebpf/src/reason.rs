//! Why a packet passed or was dropped.

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The network stack gets it.
    Pass,
    /// It ends here.
    Drop,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $action:ident;)*) => {
        /// Why a packet passed or was dropped: each packet counts for exactly one.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reason { $($(#[$doc])* $variant = $number,)* }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in counters, logs and tests.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What becomes of the packet.
            #[inline(always)]
            #[must_use]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)* }
            }
        }
    };
}

reasons! {
    /// No TCP, or not to a protected port.
    NotOurs = 0, "not_ours", Pass;
    /// A fragment that is not the first: it has no TCP header.
    LaterFragment = 1, "later_fragment", Pass;
    /// A header is cut off or contradicts itself, or more extension headers than the program reads.
    Malformed = 2, "malformed", Pass;
    /// The source stands in `ALLOW`.
    Allowed = 3, "allowed", Pass;
    /// Banned or blocked, but in a never-ban prefix, and within its budget.
    NeverBan = 4, "never_ban", Pass;
    /// To a protected port, and nothing against it.
    Pass = 5, "pass", Pass;
    /// The source is banned.
    Ban = 6, "ban", Drop;
    /// A prefix of the source is blocked.
    Block = 7, "block", Drop;
    /// A SYN over its source's budget.
    SynBudget = 8, "syn_budget", Drop;
    /// [`Self::Ban`] in watch mode.
    WatchedBan = 9, "watched_ban", Pass;
    /// [`Self::Block`] in watch mode.
    WatchedBlock = 10, "watched_block", Pass;
    /// [`Self::SynBudget`] in watch mode.
    WatchedSynBudget = 11, "watched_syn_budget", Pass;
    /// A first fragment that ends within its TCP header: it hides from the program whether it opens a connection.
    TinyFragment = 12, "tiny_fragment", Drop;
    /// [`Self::TinyFragment`] in watch mode.
    WatchedTinyFragment = 13, "watched_tiny_fragment", Pass;
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// What this reason counts as in watch mode.
    #[inline(always)]
    #[must_use]
    pub const fn watched(self) -> Self {
        match self {
            Self::Ban => Self::WatchedBan,
            Self::Block => Self::WatchedBlock,
            Self::SynBudget => Self::WatchedSynBudget,
            Self::TinyFragment => Self::WatchedTinyFragment,
            Self::NotOurs
            | Self::LaterFragment
            | Self::Malformed
            | Self::Allowed
            | Self::NeverBan
            | Self::Pass
            | Self::WatchedBan
            | Self::WatchedBlock
            | Self::WatchedSynBudget
            | Self::WatchedTinyFragment => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reasons_number_is_its_place() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            assert_eq!(Reason::from_number(place as u32), Some(*reason));
        }
        assert_eq!(Reason::from_number(Reason::COUNT), None);
    }

    #[test]
    fn nothing_drops_in_watch_mode() {
        for reason in Reason::ALL {
            assert_eq!(reason.watched().action(), Action::Pass, "{}", reason.name());
            assert_eq!(reason.watched() == *reason, reason.action() == Action::Pass, "{}", reason.name());
        }
    }
}
