//! Honest senders: one message each, at a steady rate, each over a connection of its own. Its time runs from the
//! first SYN to the final `250`, TCP's and SMTP's repetitions included: what a flood must not touch.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::Ledger;
use crate::mass::Post;
use crate::plan::Planned;
use crate::reflector::helo;
use crate::smtp::{Outcome, Session};

/// Sends message `index` when it is due, and again by schedule until it is over or `deadline` is past.
pub async fn send(
    index: usize,
    planned: Planned,
    post: Rc<Post>,
    ledger: Rc<Ledger>,
    begin: Instant,
    deadline: Duration,
) {
    sleep_until(begin + planned.due).await;
    let message = post.message(index);
    loop {
        let began = begin.elapsed();
        let outcome =
            match Session::open(planned.source, post.target, &helo(planned.source), post.patience).await {
                Err(outcome) => outcome,
                Ok(mut session) => {
                    let outcome = session.send(&message.envelope, &message.wire).await;
                    let ended = begin.elapsed();
                    if session.usable() {
                        session.quit().await;
                    }
                    if matches!(outcome, Outcome::Delivered | Outcome::Refused(_)) {
                        let _ = ledger.tried(index, outcome, began, ended, &post.backoff);
                        return;
                    }
                    outcome
                }
            };
        let Some(wait) = ledger.tried(index, outcome, began, begin.elapsed(), &post.backoff) else { return };
        if begin.elapsed() + wait >= deadline {
            return ledger.give_up(index);
        }
        sleep(wait).await;
    }
}
