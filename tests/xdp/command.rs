//! `backstop xdp attach|status|detach`: what scripts rely on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edge_user::dataplane::Dataplane;
use lab::program::{Profile, Program};
use serde_json::Value;

use crate::kernel::require_root;
use crate::veth::{EDGE, INTERFACE, OTHER, PEER, Veth, ip, on_veth};

/// Runs `backstop xdp ACTION --json` as the edge: its exit code, and the one object that it prints.
fn xdp(veth: &Veth, backstop: &Path, action: &str) -> (Option<i32>, Value) {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        r#"
hostname = "edge.example.jp"
inbound.listen = ["{EDGE}:25"]
signature.keys = "/nowhere/keys"

[[domain]]
name = "example.jp"
upstream = "{OTHER}:25"

[xdp]
interface = "{INTERFACE}"
watch = false
bans_max = 64
sources_max = 1024
prefixes_max = 64
pin_dir = "{}"
"#,
        veth.settings().pin_dir.display()
    );
    std::fs::write(config.path(), text).unwrap();
    let output = Command::new(backstop)
        .args(["xdp", action, "--json", "--config"])
        .arg(config.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let object = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code(), object)
}

#[test]
fn scripts_attach_look_and_detach_by_the_command_line() {
    require_root();
    let backstop = Program::Backstop.build(Profile::Dev).unwrap();
    on_veth(move |veth| {
        let (code, status) = xdp(veth, &backstop, "status");
        assert_eq!((code, &status["attached"]), (Some(1), &Value::Bool(false)));
        assert!(status["why_not"].as_str().unwrap().contains("backstop xdp attach"));

        let (code, status) = xdp(veth, &backstop, "attach");
        assert_eq!((code, status["mode"].as_str()), (Some(0), Some("native")));
        assert!(ip(&format!("link show {INTERFACE}")).contains("prog/xdp"), "it left with the command");
        let dataplane = Dataplane::open_pinned(&veth.settings()).unwrap();
        dataplane.ban(PEER.parse().unwrap(), Duration::MAX, 0).unwrap();
        assert!(dataplane.ban(OTHER.parse().unwrap(), Duration::MAX, 0).is_err(), "an upstream was banned");
        assert!(veth.is_dropped(PEER, 25));

        let (code, status) = xdp(veth, &backstop, "attach");
        assert_eq!((code, status["bans"].as_u64()), (Some(0), Some(1)), "attaching again lost the ban");
        let (code, status) = xdp(veth, &backstop, "status");
        assert_eq!((code, status["watch"].as_bool()), (Some(0), Some(false)));
        assert!(status["counters"]["ban"].as_u64() > Some(0));

        assert_eq!(xdp(veth, &backstop, "detach").0, Some(0));
        assert!(!ip(&format!("link show {INTERFACE}")).contains("prog/xdp"));
        assert_eq!(xdp(veth, &backstop, "status").0, Some(1));
        assert!(veth.connects(PEER, 25));
    });
}
