//! The network card: whether its driver runs the program itself, and whose program is on it.

use super::Subject;
use super::finding::{Findings, all_of};
use crate::config::{Xdp, XdpMode};
use crate::dataplane::{self, AttachedMode, Nic, Whose, XdpFeatures};

/// The largest packet that fits into one page beside the room that XDP keeps, in octets: above it a driver needs frames
/// of several buffers (which the program is not written for) or refuses.
const ONE_BUFFER_MTU_MAX: u32 = 3498;

/// Drivers that run XDP programs themselves, for kernels that do not say (before 6.3).
const NATIVE: [&str; 24] = [
    "virtio_net",
    "veth",
    "tun",
    "ena",
    "gve",
    "hv_netvsc",
    "mlx4_en",
    "mlx5_core",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "bnxt_en",
    "nfp",
    "qede",
    "sfc",
    "mvneta",
    "mvpp2",
    "stmmac",
    "xen_netfront",
    "mana",
    "bond",
];

/// Drivers that take no program while packets are merged for them.
const NO_LRO: [&str; 4] = ["virtio_net", "vmxnet3", "bnxt_en", "ixgbe"];

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let Some(xdp) = &subject.config.xdp else {
        findings.good("protection", "none is configured: no [xdp]; the edge alone stops what it can");
        return;
    };
    match dataplane::look_at_nic(xdp) {
        Ok(nic) => judge(xdp, &nic, findings),
        Err(error) => {
            findings.bad("interface", all_of(&error), "set xdp.interface to one of `ip -brief link`")
        }
    }
}

fn judge(xdp: &Xdp, nic: &Nic, findings: &mut Findings) {
    let name = &xdp.interface;
    let driver = match &nic.driver {
        Some(driver) => format!("the driver of {name} ({driver})"),
        None => name.clone(),
    };
    if nic.up {
        findings.good("interface", format!("{name} is up, MTU {}", nic.mtu));
    } else {
        findings.bad("interface", format!("{name} is down"), format!("ip link set dev {name} up"));
    }
    mode(xdp, nic, &driver, findings);
    let fragments = nic.features.is_some_and(|features| features.fragments);
    if xdp.mode != XdpMode::Generic && nic.mtu > ONE_BUFFER_MTU_MAX && name != "lo" {
        let may = if fragments { "its driver can split them, this program is not made for that" } else { "" };
        findings.careful(
            "jumbo frames",
            format!("MTU {}: packets of more than one buffer; {may}", nic.mtu).trim_end_matches("; ").to_owned(),
            format!(
                "native mode needs an MTU of at most {ONE_BUFFER_MTU_MAX} (ip link set dev {name} mtu 1500), or \
                 set xdp.mode = \"generic\""
            ),
        );
    }
    match nic.attached {
        None => findings.good("attached", "no program; the edge attaches its own when it starts"),
        Some((mode, Whose::Ours)) => findings.good("attached", format!("our own program, {mode}")),
        Some((_, Whose::OtherAbi)) => findings.careful(
            "attached",
            "a program of another version of Backstop",
            "the next start of the edge replaces it",
        ),
        Some((_, Whose::Foreign(program))) => findings.bad(
            "attached",
            format!("another XDP program (id {program}) has the interface"),
            format!("bpftool prog show id {program} names it; ip link set dev {name} xdp off takes it off"),
        ),
        Some((mode, Whose::Untold)) => {
            findings.untold("attached", format!("a program, {mode}; whose it is cannot be told"));
        }
    }
}

/// Whether the driver does it itself.
fn mode(xdp: &Xdp, nic: &Nic, driver: &str, findings: &mut Findings) {
    if let Some((attached, Whose::Ours)) = nic.attached
        && (attached == AttachedMode::Native || xdp.mode == XdpMode::Generic)
    {
        findings.good("native XDP", format!("{driver}: attached, {attached}"));
        return;
    }
    let is_one_of = |names: &[&str]| nic.driver.as_deref().is_some_and(|driver| names.contains(&driver));
    let lro = is_one_of(&NO_LRO).then(|| {
        format!(
            "; where it refuses: ethtool -K {} lro off gro-hw off, and queues enough for each CPU twice",
            xdp.interface
        )
    });
    let native = match nic.features {
        Some(XdpFeatures { native, .. }) => Some(native),
        None if is_one_of(&NATIVE) => Some(true),
        None => None,
    };
    match (native, xdp.mode) {
        (Some(true), XdpMode::Auto | XdpMode::Native) => {
            findings.good("native XDP", format!("{driver} has it{}", lro.unwrap_or_default()));
        }
        (Some(true), XdpMode::Generic) => findings.careful(
            "native XDP",
            format!("{driver} has it, but xdp.mode is \"generic\": a socket buffer is spent on each packet"),
            "xdp.mode = \"auto\"",
        ),
        (Some(false), XdpMode::Auto | XdpMode::Generic) => findings.careful(
            "native XDP",
            format!(
                "{driver} has none: generic mode spends a socket buffer on each packet before it is dropped"
            ),
            "it works, but a flood costs more; another card or driver if floods are expected",
        ),
        (Some(false), XdpMode::Native) => findings.bad(
            "native XDP",
            format!("{driver} has none, and xdp.mode is \"native\": the edge will not start"),
            "xdp.mode = \"auto\"",
        ),
        (None, _) => findings.careful(
            "native XDP",
            format!("this kernel does not say whether {driver} has it"),
            "`backstop xdp attach` tries it; `backstop xdp status` says what came of it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    fn xdp(mode: XdpMode) -> Xdp {
        let config = super::super::sample("127.0.0.1:25", "[xdp]\ninterface = \"eth0\"\n");
        Xdp { mode, ..config.xdp.unwrap() }
    }

    #[test]
    fn cards_are_judged_by_driver_mode_and_program() {
        let able = |native| Some(XdpFeatures { native, fragments: false });
        let nic =
            Nic { up: true, mtu: 1500, driver: Some("ice".into()), features: able(true), attached: None };
        let on = |mode, whose| Some((mode, whose));
        use AttachedMode::{Generic, Native};
        type Row = (&'static str, XdpMode, Nic, Vec<(State, &'static str)>);
        let all_good = vec![(Good, "interface"), (Good, "native XDP"), (Good, "attached")];
        let third = |state| vec![(Good, "interface"), (Good, "native XDP"), (state, "attached")];
        let second = |state| vec![(Good, "interface"), (state, "native XDP"), (Good, "attached")];
        let rows: Vec<Row> = vec![
            ("native", XdpMode::Auto, nic.clone(), all_good.clone()),
            (
                "ours",
                XdpMode::Native,
                Nic { attached: on(Native, Whose::Ours), ..nic.clone() },
                all_good.clone(),
            ),
            ("generic only", XdpMode::Auto, Nic { features: able(false), ..nic.clone() }, second(Careful)),
            (
                "generic, native asked",
                XdpMode::Native,
                Nic { features: able(false), ..nic.clone() },
                second(Bad),
            ),
            ("native, generic asked", XdpMode::Generic, nic.clone(), second(Careful)),
            (
                "ours, but generic",
                XdpMode::Auto,
                Nic { features: able(false), attached: on(Generic, Whose::Ours), ..nic.clone() },
                second(Careful),
            ),
            (
                "old kernel, known driver",
                XdpMode::Auto,
                Nic { features: None, ..nic.clone() },
                all_good.clone(),
            ),
            (
                "old kernel, unknown driver",
                XdpMode::Auto,
                Nic { features: None, driver: Some("r8169".into()), ..nic.clone() },
                second(Careful),
            ),
            (
                "foreign",
                XdpMode::Auto,
                Nic { attached: on(Native, Whose::Foreign(7)), ..nic.clone() },
                third(Bad),
            ),
            (
                "older",
                XdpMode::Auto,
                Nic { attached: on(Native, Whose::OtherAbi), ..nic.clone() },
                third(Careful),
            ),
            (
                "untold",
                XdpMode::Auto,
                Nic { attached: on(Native, Whose::Untold), ..nic.clone() },
                third(Careful),
            ),
            (
                "down",
                XdpMode::Auto,
                Nic { up: false, ..nic.clone() },
                vec![(Bad, "interface"), (Good, "native XDP"), (Good, "attached")],
            ),
            (
                "jumbo",
                XdpMode::Auto,
                Nic { mtu: 9000, ..nic.clone() },
                vec![
                    (Good, "interface"),
                    (Good, "native XDP"),
                    (Careful, "jumbo frames"),
                    (Good, "attached"),
                ],
            ),
        ];
        for (name, mode, nic, expected) in rows {
            let mut findings = Findings::of("nic");
            judge(&xdp(mode), &nic, &mut findings);
            assert_eq!(findings.states(), expected, "{name}: {}", findings.text());
        }
    }
}
