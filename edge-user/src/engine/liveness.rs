//! Whether every thread that moves mail still does: a question goes round, and each must answer from its own loop.
//!
//! No clock is needed. Who asks at regular times ([`Liveness::ask`]) learns who has not answered the question before;
//! only when all have is the next one asked. A thread that is stuck, or gone, does not answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::locked;

/// Asks all threads that take part.
#[derive(Debug)]
pub struct Liveness {
    question: watch::Sender<u64>,
    parts: Mutex<Vec<Part>>,
}

#[derive(Debug)]
struct Part {
    name: String,
    answered: Arc<AtomicU64>,
}

impl Liveness {
    /// Nobody takes part yet.
    pub(super) fn new() -> Self {
        Self { question: watch::Sender::new(1), parts: Mutex::default() }
    }

    /// A thread takes part from now on, until another one of its name does: it must run what is returned.
    pub(super) fn join(&self, name: &str) -> Answering {
        let answered = Arc::new(AtomicU64::new(0));
        let mut parts = locked(&self.parts);
        parts.retain(|part| part.name != name);
        parts.push(Part { name: name.to_owned(), answered: Arc::clone(&answered) });
        Answering { question: self.question.subscribe(), answered }
    }

    /// Asks the next question, if all have answered the one before.
    ///
    /// # Errors
    /// The names of those that have not; none at all, if nobody takes part yet.
    pub fn ask(&self) -> Result<(), Vec<String>> {
        let asked = *self.question.borrow();
        let parts = locked(&self.parts);
        let silent: Vec<String> = parts
            .iter()
            .filter(|part| part.answered.load(Ordering::Relaxed) != asked)
            .map(|part| part.name.clone())
            .collect();
        if parts.is_empty() || !silent.is_empty() {
            return Err(silent);
        }
        self.question.send_replace(asked + 1);
        Ok(())
    }
}

/// A thread's side.
#[derive(Debug)]
pub(super) struct Answering {
    question: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Answering {
    /// Answers from the thread that polls this, as long as anybody can ask.
    pub(super) async fn run(mut self) {
        loop {
            let asked = *self.question.borrow_and_update();
            self.answered.store(asked, Ordering::Relaxed);
            if self.question.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    /// Lets a thread's tasks do what they can do now.
    fn turn(runtime: &Runtime) {
        runtime.block_on(async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn a_thread_that_takes_anothers_place_answers_for_it() {
        let (liveness, thread) = (Liveness::new(), runtime());
        drop(liveness.join("worker"));
        assert_eq!(liveness.ask(), Err(vec!["worker".to_owned()]));
        let second = liveness.join("worker");
        thread.spawn(second.run());
        turn(&thread);
        assert_eq!(liveness.ask(), Ok(()));
    }

    #[test]
    fn all_is_well_only_while_each_thread_turns() {
        let liveness = Liveness::new();
        assert_eq!(liveness.ask(), Err(vec![]), "nobody is there");
        let (one, two) = (runtime(), runtime());
        one.spawn(liveness.join("one").run());
        two.spawn(liveness.join("two").run());
        assert_eq!(liveness.ask(), Err(vec!["one".into(), "two".into()]), "neither has begun");
        turn(&one);
        assert_eq!(liveness.ask(), Err(vec!["two".into()]));
        turn(&two);
        for _ in 0..3 {
            assert_eq!(liveness.ask(), Ok(()));
            turn(&one);
            assert_eq!(liveness.ask(), Err(vec!["two".into()]), "two is stuck");
            turn(&one);
            assert_eq!(liveness.ask(), Err(vec!["two".into()]), "and one's turns are not two's");
            turn(&two);
        }
        assert_eq!(liveness.ask(), Ok(()), "it goes on again");
    }

    #[test]
    fn a_thread_that_is_gone_answers_no_more() {
        let liveness = Liveness::new();
        let (one, two) = (runtime(), runtime());
        one.spawn(liveness.join("one").run());
        two.spawn(liveness.join("two").run());
        turn(&one);
        turn(&two);
        assert_eq!(liveness.ask(), Ok(()));
        drop(two);
        turn(&one);
        assert_eq!(liveness.ask(), Err(vec!["two".into()]));
    }
}
