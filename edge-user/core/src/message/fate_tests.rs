//! The promises for a message, before any socket: what becomes of it in each state.

use super::*;

const CLEAN: EndOfData = EndOfData { bare_line_ending: false, too_big: false, bytes: 10 };
const BARE: EndOfData = EndOfData { bare_line_ending: true, too_big: false, bytes: 10 };
const BIG: EndOfData = EndOfData { bare_line_ending: false, too_big: true, bytes: 10 };
const HOLD: usize = 100;

struct Row {
    name: &'static str,
    start: Fate,
    dialogue: &'static [(Happening, Order)],
}

use Happening as H;
use Order as O;

const ROWS: &[Row] = &[
    Row {
        name: "mail with a sender streams, and the upstream's reply is the reply",
        start: Fate::streaming(),
        dialogue: &[
            (H::Piece { bytes: 7 }, O::Stream),
            (H::Piece { bytes: 500 }, O::Stream),
            (H::End(CLEAN), O::Finish),
        ],
    },
    Row {
        name: "a proof in the second piece opens the upstream, and the rest streams",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 60 }, O::Hold),
            (H::Proven, O::Open { mark: false }),
            (H::Piece { bytes: 60 }, O::Stream),
            (H::End(CLEAN), O::Finish),
        ],
    },
    Row {
        name: "unproven and rejected: 550 after the final dot, no upstream",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 100 }, O::Hold),
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Reject), O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::Unproven)),
        ],
    },
    Row {
        name: "unproven and discarded: 250, no upstream",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Discard), O::LetGo),
            (H::End(CLEAN), O::Accept),
        ],
    },
    Row {
        name: "unproven and quarantined: 250 only when it is on disk, no upstream",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 60 }, O::Hold),
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::End(CLEAN), O::Seal),
            (H::Sealed, O::Nothing),
            (H::End(CLEAN), O::Accept),
        ],
    },
    Row {
        name: "over the hold, quarantine takes the pieces as they come",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 100 }, O::Hold),
            (H::Piece { bytes: 1 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::Piece { bytes: 1 }, O::KeepPiece),
            (H::Piece { bytes: 9000 }, O::KeepPiece),
            (H::End(CLEAN), O::Seal),
            (H::Sealed, O::Nothing),
            (H::End(CLEAN), O::Accept),
        ],
    },
    Row {
        name: "a quarantine that cannot begin: 452, and the rest is not kept",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 101 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::NotKept(Unkept::Fault), O::LetGo),
            (H::Piece { bytes: 101 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::NotKept)),
        ],
    },
    Row {
        name: "a quarantine that is full: 452, and it is known that no disk is at fault",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::NotKept(Unkept::Full), O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::QuarantineFull)),
        ],
    },
    Row {
        name: "a disk that is full in the middle: 452",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 101 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::Piece { bytes: 101 }, O::KeepPiece),
            (H::NotKept(Unkept::Fault), O::LetGo),
            (H::Piece { bytes: 5 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::NotKept)),
        ],
    },
    Row {
        name: "a disk that fails at the sync: 452",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::End(CLEAN), O::Seal),
            (H::NotKept(Unkept::Fault), O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::NotKept)),
        ],
    },
    Row {
        name: "a loop and a bare line ending take a message out of the quarantine again",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 101 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Quarantine), O::Keep),
            (H::Piece { bytes: 101 }, O::KeepPiece),
            (H::Loop, O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::Loop)),
            (H::End(BARE), O::Refuse(Refusal::BareLineEnding)),
        ],
    },
    Row {
        name: "unproven and marked goes upstream with the mark",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Mark), O::Open { mark: true }),
            (H::End(CLEAN), O::Finish),
        ],
    },
    Row {
        name: "monitor goes upstream as it is",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Monitor), O::Open { mark: false }),
            (H::End(CLEAN), O::Finish),
        ],
    },
    Row {
        name: "one octet over the hold is judged there; reject reads on and keeps nothing",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 100 }, O::Hold),
            (H::Piece { bytes: 1 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Reject), O::LetGo),
            (H::Piece { bytes: 1 }, O::Skip),
            (H::Piece { bytes: 9000 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::Unproven)),
        ],
    },
    Row {
        name: "over the hold, discard reads on and answers 250",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 101 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Discard), O::LetGo),
            (H::Piece { bytes: 101 }, O::Skip),
            (H::End(CLEAN), O::Accept),
        ],
    },
    Row {
        name: "over the hold, mark opens the upstream and streams",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 100 }, O::Hold),
            (H::Piece { bytes: 1 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Mark), O::Open { mark: true }),
            (H::Piece { bytes: 1 }, O::Stream),
            (H::End(CLEAN), O::Finish),
        ],
    },
    Row {
        name: "no room in all sessions: 452, and nothing is kept",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 50 }, O::Hold),
            (H::HoldExhausted, O::LetGo),
            (H::Piece { bytes: 50 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::HoldExhausted)),
        ],
    },
    Row {
        name: "the upstream refuses a proven bounce's recipient: its words at the final dot",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Proven, O::Open { mark: false }),
            (H::UpstreamRefused, O::LetGo),
            (H::Piece { bytes: 5 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::ByUpstream)),
        ],
    },
    Row {
        name: "the upstream cannot be reached at the end of a proven bounce: 451",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::End(CLEAN), O::Judge(JudgeWhen::AtEnd)),
            (H::Ruled(Action::Deliver), O::Open { mark: false }),
            (H::UpstreamLost, O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::UpstreamLost)),
        ],
    },
    Row {
        name: "the upstream closes in the body: 451",
        start: Fate::streaming(),
        dialogue: &[
            (H::Piece { bytes: 5 }, O::Stream),
            (H::UpstreamLost, O::LetGo),
            (H::Piece { bytes: 5 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::UpstreamLost)),
        ],
    },
    Row {
        name: "the upstream closes after the final dot: 451, in doubt",
        start: Fate::streaming(),
        dialogue: &[(H::End(CLEAN), O::Finish), (H::UpstreamLostAtEnd, O::Refuse(Refusal::InDoubt))],
    },
    Row {
        name: "a loop lets the upstream go without a final dot",
        start: Fate::streaming(),
        dialogue: &[
            (H::Piece { bytes: 5 }, O::Stream),
            (H::Loop, O::LetGo),
            (H::Piece { bytes: 5 }, O::Skip),
            (H::End(CLEAN), O::Refuse(Refusal::Loop)),
        ],
    },
    Row {
        name: "a loop in a held bounce",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 5 }, O::Hold),
            (H::Loop, O::LetGo),
            (H::End(CLEAN), O::Refuse(Refusal::Loop)),
        ],
    },
    Row {
        name: "a bare line ending never gets a final dot upstream",
        start: Fate::streaming(),
        dialogue: &[(H::Piece { bytes: 5 }, O::Stream), (H::End(BARE), O::Refuse(Refusal::BareLineEnding))],
    },
    Row {
        name: "a bare line ending in a bounce to be discarded is refused all the same",
        start: Fate::deciding(HOLD),
        dialogue: &[
            (H::Piece { bytes: 101 }, O::Judge(JudgeWhen::TooBigToProve)),
            (H::Ruled(Action::Discard), O::LetGo),
            (H::End(BARE), O::Refuse(Refusal::BareLineEnding)),
        ],
    },
    Row {
        name: "a bare line ending in a held bounce is refused before anybody is asked",
        start: Fate::deciding(HOLD),
        dialogue: &[(H::Piece { bytes: 5 }, O::Hold), (H::End(BARE), O::Refuse(Refusal::BareLineEnding))],
    },
    Row {
        name: "too big is refused, whatever else",
        start: Fate::streaming(),
        dialogue: &[(H::Piece { bytes: 5 }, O::Stream), (H::End(BIG), O::Refuse(Refusal::TooBig))],
    },
];

#[test]
fn each_message_ends_as_its_row_says() {
    for row in ROWS {
        let mut fate = row.start;
        for (place, (happening, order)) in row.dialogue.iter().enumerate() {
            assert_eq!(fate.on(*happening), *order, "{}: step {place}, {happening:?}", row.name);
        }
    }
}

#[test]
fn a_fault_of_ours_is_never_5xx_and_never_250() {
    for why in [
        Refusal::UpstreamLost,
        Refusal::InDoubt,
        Refusal::HoldExhausted,
        Refusal::NotKept,
        Refusal::QuarantineFull,
    ] {
        let code = why.reply().expect("our own words").code;
        assert_eq!(code / 100, 4, "{why:?}");
    }
}

const HAPPENINGS: &[Happening] = &[
    H::Piece { bytes: 60 },
    H::Proven,
    H::Ruled(Action::Reject),
    H::Ruled(Action::Discard),
    H::Ruled(Action::Deliver),
    H::Ruled(Action::Mark),
    H::Ruled(Action::Quarantine),
    H::Sealed,
    H::NotKept(Unkept::Fault),
    H::NotKept(Unkept::Full),
    H::HoldExhausted,
    H::Loop,
    H::UpstreamRefused,
    H::UpstreamLost,
    H::UpstreamLostAtEnd,
    H::End(CLEAN),
    H::End(BARE),
    H::End(BIG),
];

/// Walks every order of happenings up to a depth, and asks an invariant of each step.
fn walk(fate: Fate, trail: &mut Vec<Happening>, depth: usize, check: &dyn Fn(Fate, &[Happening], Order)) {
    if depth == 0 {
        return;
    }
    for happening in HAPPENINGS {
        let mut next = fate;
        let order = next.on(*happening);
        trail.push(*happening);
        check(next, trail, order);
        walk(next, trail, depth - 1, check);
        trail.pop();
    }
}

#[test]
fn a_250_of_ours_means_that_a_rule_said_discard_or_that_it_is_on_disk() {
    let check = |fate: Fate, trail: &[Happening], order: Order| {
        if order != Order::Accept {
            return;
        }
        match fate {
            Fate::Kept => assert!(was_sealed(trail), "{trail:?}"),
            Fate::Discarding => assert!(trail.contains(&H::Ruled(Action::Discard)), "{trail:?}"),
            Fate::Deciding { .. } | Fate::Streaming | Fate::Refusing(_) | Fate::Keeping | Fate::Sealing => {
                panic!("{trail:?} is accepted in {fate:?}")
            }
        }
    };
    walk(Fate::deciding(HOLD), &mut Vec::new(), 5, &check);
    walk(Fate::streaming(), &mut Vec::new(), 4, &check);
}

/// The rule said quarantine; then came the end, then the disk's word, and no piece after the end.
fn was_sealed(trail: &[Happening]) -> bool {
    let ruled = trail.iter().position(|h| *h == H::Ruled(Action::Quarantine));
    let sealed = trail.iter().rposition(|h| *h == H::Sealed);
    let (Some(ruled), Some(sealed)) = (ruled, sealed) else { return false };
    let end = (ruled..sealed).find(|at| matches!(trail[*at], H::End(_)));
    end.is_some_and(|end| !trail[end..].iter().any(|h| matches!(h, H::Piece { .. } | H::NotKept(_))))
}

#[test]
fn a_quarantined_message_goes_nowhere_else_and_what_failed_once_is_never_accepted() {
    let check = |_: Fate, trail: &[Happening], order: Order| {
        let kept = trail.iter().position(|h| matches!(h, H::NotKept(_)));
        if kept.is_some() {
            assert_ne!(order, Order::Accept, "{trail:?}");
        }
        assert!(!matches!(order, Order::Open { .. } | Order::Stream | Order::Finish), "{trail:?}");
    };
    walk(Fate::Keeping, &mut Vec::new(), 5, &check);
    walk(Fate::Sealing, &mut Vec::new(), 4, &check);
}

#[test]
fn nothing_opens_an_upstream_but_a_proof_or_a_rule() {
    let check = |fate: Fate, trail: &[Happening], order: Order| {
        if matches!(order, Order::Open { .. } | Order::Stream | Order::Finish) {
            let allowed =
                trail.iter().any(|h| matches!(h, H::Proven | H::Ruled(Action::Deliver | Action::Mark)));
            assert!(allowed, "{trail:?}");
        }
        if let Fate::Deciding { held_bytes, held_bytes_max } = fate {
            assert!(held_bytes <= held_bytes_max, "{trail:?}");
        }
    };
    walk(Fate::deciding(HOLD), &mut Vec::new(), 5, &check);
}
