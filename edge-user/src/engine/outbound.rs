//! The way out: the operator's own server hands its mail in to be signed.

use std::sync::Arc;

use edge_core::smtp::{Enhanced, Reply};

use super::Edge;
use super::client::Client;

/// Serves one session.
pub(super) async fn run(edge: Arc<Edge>, mut client: Client) {
    Reply::new(421, Enhanced(4, 3, 0), "Not in service yet").write(&mut client.out);
    client.close(edge.client_patience()).await;
}
