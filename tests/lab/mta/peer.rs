//! What an operator could have put in the edge's place: any unpacked server, configured by who measures against it, and
//! held to one core.

use std::net::SocketAddr;

use anyhow::Result;

use super::postfix::{self, COMMON};
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
    /// Shell: what goes before.
    pub prepare: String,
    /// The server's command, in the foreground.
    pub command: String,
}

impl Lab {
    /// Starts one on a core.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn peer(&self, peer: Peer, core: usize) -> Result<MailServer> {
        let Peer { name, software, listens, etc, prepare, command } = peer;
        let instance = Instance {
            name: name.to_owned(),
            software,
            beside: Vec::new(),
            host: Host::Edge,
            listens,
            etc,
            users: Vec::new(),
            groups: Vec::new(),
            prepare: format!("{prepare}ulimit -n \"$(ulimit -Hn)\"\nexec taskset -c {core} {command}\n"),
        };
        MailServer::start(self, instance)
    }

    /// Starts a Postfix on a core: `main` and `services` are lines of `main.cf` and `master.cf` besides those that all
    /// have, `files` lie below `/etc/postfix`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn postfix_peer(
        &self,
        main: &str,
        services: &str,
        files: Vec<(&'static str, String)>,
        listens: SocketAddr,
        core: usize,
    ) -> Result<MailServer> {
        let main = format!("{COMMON}{main}");
        let mut instance = postfix::instance("postfix-peer", Host::Edge, listens, main, services);
        instance.etc.extend(files);
        let pinned = instance.prepare.replace("exec ", &format!("exec taskset -c {core} "));
        instance.prepare = pinned;
        MailServer::start(self, instance)
    }
}
