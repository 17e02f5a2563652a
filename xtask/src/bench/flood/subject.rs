//! Who stands before the mailboxes: a Postfix, alone or behind something.

use std::net::SocketAddr;

use anyhow::Result;
use lab::edge::{Edge, Settings};
use lab::mta::{MailServer, Operator};
use lab::program::Profile;
use lab::{EDGE, Lab, MTA_OUTSIDE};

use crate::bench::cores::FIRST;

/// What the lab changes of Postfix's defaults for quick tests, changed back.
const POSTFIX_DEFAULTS: [(&str, &str); 5] = [
    ("in_flow_delay", "1s"),
    ("queue_run_delay", "300s"),
    ("minimal_backoff_time", "300s"),
    ("maximal_backoff_time", "4000s"),
    ("smtpd_client_connection_count_limit", "50"),
];

/// A subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    /// Backstop, with XDP.
    Backstop,
    /// Backstop, without XDP.
    WithoutXdp,
    /// Postfix with postscreen(8).
    Postscreen,
    /// Postfix alone.
    Postfix,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [Self::Backstop, Self::WithoutXdp, Self::Postscreen, Self::Postfix];

    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Backstop => "backstop",
            Self::WithoutXdp => "backstop_no_xdp",
            Self::Postscreen => "postscreen",
            Self::Postfix => "postfix",
        }
    }

    /// The same in words.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Backstop => "Backstop with XDP, before Postfix",
            Self::WithoutXdp => "Backstop without XDP, before Postfix",
            Self::Postscreen => "Postfix with postscreen",
            Self::Postfix => "Postfix alone",
        }
    }

    /// Whether the goals are held against it.
    pub(super) const fn has_goals(self) -> bool {
        match self {
            Self::Backstop => true,
            Self::WithoutXdp | Self::Postscreen | Self::Postfix => false,
        }
    }

    /// Its lab, with its servers on these cores.
    pub(super) fn up(self, profile: Profile, cores: &[usize]) -> Result<Place> {
        let mut lab = Lab::up("bench-flood")?;
        let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
        // What else the machine does is to count for little, in the calm as in the waves: so it is for servers and loads.
        // The shell starts no other program: the lab takes the first child for the one that was meant.
        lab.start_through(&[&FIRST[..], &["taskset", "-c", &cores.join(",")]].concat());
        let (behind_edge, postscreen) = match self {
            Self::Backstop | Self::WithoutXdp => (true, false),
            Self::Postscreen => (false, true),
            Self::Postfix => (false, false),
        };
        let settings = POSTFIX_DEFAULTS.to_vec();
        let operator = Operator { behind_edge, postscreen, settings, ..Operator::default() };
        let operator = lab.operator(&operator)?;
        // Budgets, bans, limits: the defaults, as an operator has them who enforces.
        let settings = Settings::default().without("reputation");
        let edge = match self {
            Self::Backstop => Some(Edge::start(&lab, &settings, profile)?),
            Self::WithoutXdp => Some(Edge::start(&lab, &settings.without("xdp"), profile)?),
            Self::Postscreen | Self::Postfix => None,
        };
        Ok(Place { lab, operator, edge })
    }
}

/// A lab with a subject in it.
pub(super) struct Place {
    pub(super) lab: Lab,
    pub(super) operator: MailServer,
    pub(super) edge: Option<Edge>,
}

impl Place {
    /// Where the Internet's mail goes.
    pub(super) fn target(&self) -> SocketAddr {
        match self.edge {
            Some(_) => (EDGE, 25).into(),
            None => (MTA_OUTSIDE, 25).into(),
        }
    }

    /// The first processes of its servers.
    pub(super) fn servers(&self) -> Vec<u32> {
        let edge = self.edge.iter().map(|edge| edge.process().pid());
        edge.chain([self.operator.process().pid()]).collect()
    }
}
