//! What the engine tells of a source, and what it hears back.

/// What happened with a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It sent a bounce that was proven and delivered.
    ProvenBounce,
    /// Mail from a domain that our users wrote to was accepted.
    CorrespondentMail,
    /// Other mail was accepted by the upstream: it protects from bans for budgets and floods for a day, and earns nothing.
    OtherMail,
    /// It sent a bounce that nothing proved.
    UnprovenBounce,
    /// It speaks no SMTP.
    NotSmtp,
    /// It sent mail *with a sender* to a trap. A bounce to a trap is an `UnprovenBounce`: who forges senders at random
    /// hits traps, and the honest server that bounces to one is a victim.
    Trap,
    /// It held a connection without one whole command until it timed out.
    HeldIdle,
    /// It guessed at a tag and was wrong.
    WrongTag,
}

/// What to do with the source now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Go on.
    Go,
    /// Over a budget: 421 and close. A message that has just ended gets its own reply first: a bounce that was refused
    /// with 5xx is over, one that only heard 421 comes back.
    OverBudget,
    /// Banned: 421 and close; the ban's order is waiting in [`Reputation::orders`](super::Reputation::orders).
    Banned,
}
