//! How often strangers' messages may make the edge ask the DNS, and what it did not know.
//!
//! Who writes a message chooses the selector and the domain below ours that its signature names. A name that gave a key
//! before is ours in truth: it is asked for whenever it comes, and the resolver keeps its answer for [`KEY_KEPT_MIN`].
//! Every other one is paid from the sample's budget and from the minute's, and is not asked for again for a while where it
//! gave nothing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Questions for names without a known key that one sample may cause. Real mail has one or two signatures of a domain.
pub(super) const QUESTIONS_PER_SAMPLE_MAX: u32 = 2;

/// Such questions a minute, whatever comes.
pub(super) const QUESTIONS_PER_MINUTE_MAX: u32 = 60;

/// A question costs one more for each so long that its answer takes: a server that never answers holds nobody up for more
/// than a part of each minute.
const WAIT_PER_QUESTION: Duration = Duration::from_millis(250);

/// How long the resolver keeps a key at least, whatever its TTL.
pub(super) const KEY_KEPT_MIN: Duration = Duration::from_secs(60);

/// How long it is believed that there is no key.
const NO_KEY_KEPT: Duration = Duration::from_secs(600);

/// How long a name is left alone that was not answered.
const SILENCE_KEPT: Duration = Duration::from_secs(60);

/// Names that gave a key; the one that was longest not asked for makes room.
const KEYS_MAX: usize = 64;

/// Names that gave none; the one that is to be forgotten first makes room.
const LACKS_MAX: usize = 1024;

/// What came of a question that gave no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lack {
    /// There is none.
    NoKey,
    /// A fault, or no answer at all.
    Silence,
}

/// Whether a name may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// Yes.
    Ask,
    /// No need to: it is known what comes of it.
    Known(Lack),
    /// Not now: the sample's budget or the minute's is spent.
    Spent,
}

/// What was asked for, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// When each was last asked for.
    keys: HashMap<String, Instant>,
    /// Until when it is believed.
    lacks: HashMap<String, (Lack, Instant)>,
    /// When the minute began.
    minute: Option<Instant>,
    /// What its questions cost until now.
    spent: u32,
}

impl Questions {
    /// Whether a name may be asked for; if so it is paid for. `of_sample`: what this sample's questions cost before.
    pub(super) fn leave(&mut self, name: &str, of_sample: &mut u32, now: Instant) -> Leave {
        if let Some(asked) = self.keys.get_mut(name) {
            *asked = now;
            return Leave::Ask;
        }
        if let Some((lack, _)) = self.lacks.get(name).filter(|(_, until)| now < *until) {
            return Leave::Known(*lack);
        }
        if self.minute.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(60)) {
            (self.minute, self.spent) = (Some(now), 0);
        }
        if *of_sample >= QUESTIONS_PER_SAMPLE_MAX || self.spent >= QUESTIONS_PER_MINUTE_MAX {
            return Leave::Spent;
        }
        *of_sample += 1;
        self.spent += 1;
        Leave::Ask
    }

    /// The name gave a key.
    pub(super) fn key(&mut self, name: String, now: Instant) {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&name) {
            let longest = self.keys.iter().min_by_key(|(_, asked)| **asked).map(|(name, _)| name.clone());
            longest.and_then(|name| self.keys.remove(&name));
        }
        self.keys.insert(name, now);
    }

    /// It gave none, after `took`.
    pub(super) fn lack(&mut self, name: String, lack: Lack, took: Duration, now: Instant) {
        let waits = took.as_millis() / WAIT_PER_QUESTION.as_millis();
        self.spent = self.spent.saturating_add(u32::try_from(waits).unwrap_or(u32::MAX));
        self.keys.remove(&name);
        if self.lacks.len() >= LACKS_MAX {
            self.lacks.retain(|_, (_, until)| now < *until);
        }
        if self.lacks.len() >= LACKS_MAX {
            let first = self.lacks.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| name.clone());
            first.and_then(|name| self.lacks.remove(&name));
        }
        let kept = match lack {
            Lack::NoKey => NO_KEY_KEPT,
            Lack::Silence => SILENCE_KEPT,
        };
        self.lacks.insert(name, (lack, now + kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(questions: &mut Questions, name: &str, now: Instant) -> Leave {
        questions.leave(name, &mut 0, now)
    }

    #[test]
    fn a_minute_and_a_sample_ask_no_more_than_they_may() {
        let (mut questions, begin) = (Questions::default(), Instant::now());
        let mut of_sample = 0;
        for n in 0..QUESTIONS_PER_SAMPLE_MAX {
            assert_eq!(questions.leave(&format!("a{n}"), &mut of_sample, begin), Leave::Ask);
        }
        assert_eq!(questions.leave("b", &mut of_sample, begin), Leave::Spent, "the sample's");
        for n in QUESTIONS_PER_SAMPLE_MAX..QUESTIONS_PER_MINUTE_MAX {
            assert_eq!(leave(&mut questions, &format!("b{n}"), begin), Leave::Ask);
        }
        let late = begin + Duration::from_secs(59);
        assert_eq!(leave(&mut questions, "c", late), Leave::Spent, "the minute's");
        assert_eq!(leave(&mut questions, "c", begin + Duration::from_secs(60)), Leave::Ask);
    }

    #[test]
    fn a_name_that_gave_a_key_is_asked_for_whatever_strangers_spent() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        questions.key("shop".into(), now);
        while leave(&mut questions, "unknown", now) == Leave::Ask {}
        assert_eq!(leave(&mut questions, "shop", now), Leave::Ask);
        questions.lack("shop".into(), Lack::NoKey, Duration::ZERO, now);
        assert_eq!(leave(&mut questions, "shop", now), Leave::Known(Lack::NoKey), "it is there no more");
    }

    #[test]
    fn a_name_that_gave_nothing_is_left_alone_for_a_while() {
        for (lack, kept) in [(Lack::NoKey, NO_KEY_KEPT), (Lack::Silence, SILENCE_KEPT)] {
            let (mut questions, now) = (Questions::default(), Instant::now());
            questions.lack("a".into(), lack, Duration::ZERO, now);
            let over = now + kept;
            assert_eq!(leave(&mut questions, "a", over - Duration::from_millis(1)), Leave::Known(lack));
            assert_eq!(leave(&mut questions, "a", over), Leave::Ask);
        }
    }

    #[test]
    fn servers_that_never_answer_cost_a_part_of_each_minute_only() {
        let (mut questions, mut now) = (Questions::default(), Instant::now());
        let (mut waited, patience) = (Duration::ZERO, Duration::from_secs(5));
        for n in 0..1000 {
            if leave(&mut questions, &format!("{n}"), now) == Leave::Ask {
                (now, waited) = (now + patience, waited + patience);
                questions.lack(format!("{n}"), Lack::Silence, patience, now);
            }
        }
        assert!(waited >= patience && waited <= Duration::from_secs(15), "{waited:?} of a minute");
    }

    #[test]
    fn however_many_names_there_are_memory_is_bounded() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        for n in 0..3000_u64 {
            let now = now + Duration::from_millis(n);
            questions.key(format!("k{n}"), now);
            questions.lack(format!("l{n}"), Lack::NoKey, Duration::ZERO, now);
        }
        assert_eq!((questions.keys.len(), questions.lacks.len()), (KEYS_MAX, LACKS_MAX));
        let now = now + Duration::from_secs(4);
        assert_eq!(leave(&mut questions, "l2999", now), Leave::Known(Lack::NoKey), "the latest stay");
        assert!(questions.keys.contains_key("k2999"));
    }
}
