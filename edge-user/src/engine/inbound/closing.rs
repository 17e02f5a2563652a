//! How a session ends: what reputation hears of it, and what its client does.

use std::time::Duration;

use edge_core::reputation::Event as Conduct;
use edge_core::smtp::{CloseCause, Enhanced, Reply};

use super::{Ending, Inbound};
use crate::engine::doubt::Doubt;

/// How long a client has to read the last word; and where its place is wanted.
const GOODBYE: Duration = Duration::from_secs(10);
const GOODBYE_CROWDED: Duration = Duration::from_millis(500);

impl Inbound {
    /// Says the last word, and ends the connection.
    pub(super) async fn close(&mut self, ending: Ending) {
        self.release_use();
        match ending {
            Ending::Silent if !self.has_spoken => self.observe(Conduct::HeldIdle),
            // However it ends: a moment before the time is up is no better.
            Ending::Gone | Ending::Said(_) | Ending::Silent | Ending::Crowded if self.held_idle() => {
                self.observe(Conduct::HeldIdle);
            }
            Ending::Gone
            | Ending::Said(_)
            | Ending::Silent
            | Ending::Crowded
            | Ending::Enough
            | Ending::Leave => {}
        }
        let last_word = match ending {
            Ending::Gone => None,
            Ending::Said(cause) => {
                match cause {
                    CloseCause::NotSmtp => self.observe(Conduct::NotSmtp),
                    CloseCause::Quit | CloseCause::TooManyErrors => {}
                }
                None
            }
            Ending::Silent => Some(Reply::new(421, Enhanced(4, 4, 2), "Silent too long, closing")),
            Ending::Crowded => {
                self.edge.metrics.evicted.add(1);
                Some(Reply::new(421, Enhanced(4, 3, 2), "Too slow while others wait, try again later"))
            }
            Ending::Enough => {
                self.edge.metrics.refused_budget.add(1);
                Some(Reply::new(421, Enhanced(4, 7, 0), "Too much from your address, try again later"))
            }
            Ending::Leave => Some(Reply::new(421, Enhanced(4, 3, 2), "Closing, try again later")),
        };
        if let Some(reply) = last_word {
            reply.write(&mut self.client.out);
        }
        // In a message the connection is dropped: without a final dot nothing is delivered.
        if self.message.take().is_some() {
            self.upstream = None;
        }
        let most = match ending {
            Ending::Crowded => GOODBYE_CROWDED,
            Ending::Gone | Ending::Said(_) | Ending::Silent | Ending::Enough | Ending::Leave => GOODBYE,
        };
        let patience = self.edge.client_patience().min(most);
        let flushed = match ending {
            Ending::Said(CloseCause::Quit) => self.client.flush_last(patience).await,
            Ending::Said(CloseCause::TooManyErrors | CloseCause::NotSmtp)
            | Ending::Gone
            | Ending::Silent
            | Ending::Crowded
            | Ending::Enough
            | Ending::Leave => self.client.flush(patience).await,
        };
        if flushed.is_ok() {
            self.doubts.drain(..).for_each(Doubt::settle);
        }
        match ending {
            Ending::Said(CloseCause::Quit) => self.client.close_after_quit(patience).await,
            // Its place is wanted at once: it is not waited for any more.
            Ending::Crowded => {}
            Ending::Said(CloseCause::TooManyErrors | CloseCause::NotSmtp)
            | Ending::Gone
            | Ending::Silent
            | Ending::Enough
            | Ending::Leave => self.client.close(patience).await,
        }
    }
}
