//! The configuration of commands that ask a running edge. It goes on serving while its file has a fault: then it is
//! sought at the default socket, so that its status can be seen and a ban lifted in the middle of an incident.

use std::path::Path;

use super::must_exist;
use crate::config::{self, Config, ConfigError, Control};
use crate::control::{Client, ClientError};

/// The configuration at `path`; where it has a fault and an edge answers at the default socket, one that finds it there,
/// with a warning on stderr.
///
/// # Errors
/// There is none; or it has a fault, and no edge answers at the default socket.
pub(super) fn configuration(path: &Path) -> anyhow::Result<Config> {
    must_exist(path)?;
    let fault = match config::load(path) {
        Ok(config) => return Ok(config),
        Err(fault) => fault,
    };
    let (config, warning) = stand_in(fault, Control::default().socket.as_path())?;
    eprintln!("backstop: {warning}");
    Ok(config)
}

/// A configuration of defaults for the edge that answers at `socket`, and the warning that belongs to it.
///
/// # Errors
/// No edge answers there: the fault itself.
fn stand_in(fault: ConfigError, socket: &Path) -> Result<(Config, String), ConfigError> {
    if let Err(ClientError::NotRunning(_)) = Client::connect(socket) {
        return Err(fault);
    }
    let Ok(loaded) = config::parse(DEFAULTS, Path::new("defaults")) else { return Err(fault) };
    let mut config = loaded.config;
    socket.clone_into(&mut config.control.socket);
    let warning = format!(
        "the configuration has a fault, so this asks the edge at the default socket, {}:\n{fault}",
        socket.display()
    );
    Ok((config, warning))
}

/// What must stand in a file; the rest are defaults. Nothing of it is asked of a running edge.
const DEFAULTS: &str = r#"
hostname = "edge.invalid"
inbound.listen = ["127.0.0.1:25"]
signature.keys = "/etc/backstop/keys"
[[domain]]
name = "edge.invalid"
upstream = "127.0.0.1:10025"
"#;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_broken_file_leaves_the_edge_at_the_default_socket_to_be_asked_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("backstop.toml"), dir.path().join("control.sock"));
        std::fs::write(&file, "hostname = \"mx.example.jp\"\nhostnme = 1\n").unwrap();
        let fault = || config::load(&file).unwrap_err();
        assert_eq!(
            stand_in(fault(), &socket).unwrap_err().to_string(),
            fault().to_string(),
            "nobody is there"
        );

        let _edge = UnixListener::bind(&socket).unwrap();
        let (config, warning) = stand_in(fault(), &socket).unwrap();
        assert_eq!(config.control.socket, socket);
        assert!(warning.contains("hostnme") && warning.contains(":2:"), "{warning}");
        assert!(warning.contains(socket.to_str().unwrap()), "{warning}");
    }

    #[test]
    fn a_sound_file_is_taken_as_it_is_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstop.toml");
        assert!(configuration(&file).unwrap_err().to_string().contains("--config"));
        std::fs::write(&file, format!("control.socket = \"/nonexistent/x\"\n{DEFAULTS}")).unwrap();
        assert_eq!(configuration(&file).unwrap().control.socket, Path::new("/nonexistent/x"));
    }
}
