//! What becomes of a segment to a protected port.

use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use edge_ebpf::{Action, NEVER, Reason, Settings, SourceKey};

use crate::budget::take;
use crate::clock::now_ns;
use crate::maps::{ALLOW_V4, ALLOW_V6, BANS, BLOCKS_V4, BLOCKS_V6, NEVER_BAN_V4, NEVER_BAN_V6, SETTINGS};
use crate::parse::{Address, Kind, Segment};
use crate::sample::sample;

/// Decides, in watch mode too, and samples what drops or would.
#[inline(always)]
pub(crate) fn judge(ctx: &XdpContext, segment: &Segment) -> Reason {
    let Some(settings) = SETTINGS.get(0) else { return Reason::Pass };
    let (source, found) = match segment.source {
        Address::V4(address) => {
            let key = Key::new(32, address);
            if ALLOW_V4.get(&key).is_some() {
                return Reason::Allowed;
            }
            let source = SourceKey::v4(address);
            let block = || BLOCKS_V4.get(&key).is_some_and(|block| holds(block.until_ns));
            (source, spare(against(&source, block), || NEVER_BAN_V4.get(&key).is_some()))
        }
        Address::V6(address) => {
            let key = Key::new(128, address);
            if ALLOW_V6.get(&key).is_some() {
                return Reason::Allowed;
            }
            let [a, b, c, d, e, f, g, h, ..] = address;
            let source = SourceKey::v6([a, b, c, d, e, f, g, h]);
            let block = || BLOCKS_V6.get(&key).is_some_and(|block| holds(block.until_ns));
            (source, spare(against(&source, block), || NEVER_BAN_V6.get(&key).is_some()))
        }
    };
    let reason = match found.action() {
        Action::Drop => found,
        Action::Pass => match segment.kind {
            Kind::Tiny => Reason::TinyFragment,
            Kind::Opening if !take(ctx, &source, settings) => Reason::SynBudget,
            Kind::Opening | Kind::Other => found,
        },
    };
    match reason.action() {
        Action::Pass => reason,
        Action::Drop => enforce(&source, reason, settings),
    }
}

/// What stands against the source: a ban, else a block.
#[inline(always)]
fn against(source: &SourceKey, block: impl FnOnce() -> bool) -> Reason {
    // SAFETY: a ban is two aligned words that the daemon replaces as a whole element; a stale one errs for the
    // moment between two updates.
    if unsafe { BANS.get(source) }.is_some_and(|ban| holds(ban.until_ns)) {
        Reason::Ban
    } else if block() {
        Reason::Block
    } else {
        Reason::Pass
    }
}

/// Never-ban prefixes are looked up only when there is something to be spared from.
#[inline(always)]
fn spare(found: Reason, never_ban: impl FnOnce() -> bool) -> Reason {
    match found.action() {
        Action::Drop if never_ban() => Reason::NeverBan,
        Action::Drop | Action::Pass => found,
    }
}

/// Whether the time has not come yet.
#[inline(always)]
fn holds(until_ns: u64) -> bool {
    until_ns == NEVER || now_ns() < until_ns
}

#[inline(always)]
fn enforce(source: &SourceKey, reason: Reason, settings: &Settings) -> Reason {
    let reason = match settings.watch {
        0 => reason,
        _ => reason.watched(),
    };
    sample(source, reason, settings);
    reason
}
