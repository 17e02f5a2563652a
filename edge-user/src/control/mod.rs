//! The daemon's control socket: a Unix socket with peer credentials, one JSON line a request and a reply.
