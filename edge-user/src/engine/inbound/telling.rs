//! What [`edge_core::message::Fate`] orders when it is told what happened.

use edge_core::message::{Happening, Order};

use super::Inbound;

/// Where a message begins to go.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// To the upstream.
    Upstream {
        /// Marked as unproven.
        mark: bool,
    },
    Quarantine,
}

impl Inbound {
    /// Tells the fate what happened, and carries out what it orders.
    pub(super) async fn tell(&mut self, happening: Happening) {
        if let Some(begin) = self.told(happening) {
            // Most bounces go nowhere: memory for the way is there only where one does.
            Box::pin(self.carry_out(begin)).await;
        }
    }

    async fn carry_out(&mut self, begin: Begin) {
        let mut next = Some(begin);
        while let Some(begin) = next.take() {
            let happening = match begin {
                Begin::Upstream { mark } => self.open(mark).await,
                Begin::Quarantine => self.keep().await,
            };
            next = happening.and_then(|happening| self.told(happening));
        }
    }

    /// The same for what takes no time. What does is returned.
    fn told(&mut self, happening: Happening) -> Option<Begin> {
        let message = self.message.as_mut()?;
        match message.fate.on(happening) {
            Order::Open { mark } => return Some(Begin::Upstream { mark }),
            Order::Keep => return Some(Begin::Quarantine),
            Order::LetGo => {
                message.held.let_go();
                message.draft = None;
                self.drop_upstream();
            }
            Order::Nothing
            | Order::Hold
            | Order::Stream
            | Order::KeepPiece
            | Order::Seal
            | Order::Skip
            | Order::Judge(_)
            | Order::Finish
            | Order::Refuse(_)
            | Order::Accept => {}
        }
        None
    }
}
