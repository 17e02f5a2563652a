//! What an operator could have put in the edge's place: any unpacked server, configured by who measures against it.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Instance, MailServer, Software};
use crate::{Host, Lab};

/// A server on the edge's host.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name, and its folder in the lab.
    pub name: &'static str,
    /// What it runs.
    pub software: Software,
    /// Where it listens when it is ready.
    pub listens: SocketAddr,
    /// Files below `/etc`.
    pub etc: Vec<(&'static str, String)>,
    /// Shell: what goes before, and at last `exec` of the server in the foreground.
    pub prepare: String,
}

impl Lab {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn peer(&self, peer: Peer) -> Result<MailServer> {
        let Peer { name, software, listens, etc, prepare } = peer;
        let instance = Instance {
            name: name.to_owned(),
            software,
            beside: Vec::new(),
            host: Host::Edge,
            listens,
            etc,
            users: Vec::new(),
            groups: Vec::new(),
            prepare,
        };
        MailServer::start(self, instance)
    }
}
