//! STARTTLS.

use super::{Ending, Inbound};
use crate::engine::clock::Deadline;
use crate::engine::tls::NO_TLS_NOW;

impl Inbound {
    /// Goes over to TLS. A handshake that fails ends the session: after the 220 nothing can be said in clear.
    pub(super) async fn start_tls(&mut self) -> Option<Ending> {
        let Ok(handshake) = self.edge.acceptor.begin() else {
            self.edge.metrics.tls_deferred.add(1);
            self.session.refuse(&NO_TLS_NOW, &mut self.client.out);
            return None;
        };
        self.session.accept(&mut self.client.out);
        if self.flush().await.is_err() {
            return Some(Ending::Gone);
        }
        let by = Deadline::after(self.patience.left());
        let patience = self.edge.acceptor.patience.min(self.patience.left());
        let done = self.client.secure(handshake, patience).await;
        self.patience.waited(by.left());
        self.edge.note_handshake(&self.client, &done);
        if done.is_err() {
            return Some(Ending::Gone);
        }
        self.session.secured();
        None
    }
}
