//! stunnel beside the edge: ends TLS for its outbound listener.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Instance, MailServer, Software};
use crate::{Host, Lab};

impl Lab {
    /// stunnel on the edge's host, with this configuration; `files` lie below `/etc`.
    ///
    /// # Errors
    /// When it does not listen at `listens`.
    pub fn stunnel(
        &self,
        conf: &str,
        listens: SocketAddr,
        files: Vec<(&'static str, String)>,
    ) -> Result<MailServer> {
        let mut etc = files;
        etc.push(("stunnel/backstop.conf", format!("foreground = yes\nsyslog = no\n{conf}")));
        let instance = Instance {
            name: "stunnel".to_owned(),
            software: Software::Stunnel,
            beside: Vec::new(),
            host: Host::Edge,
            listens,
            etc,
            users: Vec::new(),
            groups: Vec::new(),
            prepare: "chmod 600 /etc/stunnel/edge.pem\nexec stunnel4 /etc/stunnel/backstop.conf\n".to_owned(),
        };
        MailServer::start(self, instance)
    }
}
