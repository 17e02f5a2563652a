//! The dataplane on a wire: attach, pin, adopt, ban, unban, detach.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use edge_core::source::Source;
use edge_user::config::{Xdp, XdpMode};
use edge_user::dataplane::{AttachedMode, Dataplane, DataplaneError};

use crate::veth::{EDGE, EDGE6, INTERFACE, OTHER, OTHER6, PEER, PEER6, ip, on_veth};

pub(crate) fn attach(settings: &Xdp) -> Dataplane {
    Dataplane::attach(settings, &[], &[]).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

pub(crate) fn source(text: &str) -> Source {
    text.parse().unwrap()
}

fn count(dataplane: &Dataplane, reason: &str) -> u64 {
    let counters = dataplane.counters().unwrap();
    counters.iter().find(|(name, _)| *name == reason).unwrap_or_else(|| panic!("no counter {reason}")).1
}

/// Waits until it is so; how long it takes is not what is tested.
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Where this version's pins are.
fn own_pins(settings: &Xdp) -> PathBuf {
    settings.pin_dir.join(format!("abi-{}", edge_ebpf::ABI_VERSION))
}

pub(crate) fn pins(settings: &Xdp) -> usize {
    std::fs::read_dir(own_pins(settings)).map_or(0, Iterator::count)
}

#[test]
fn it_attaches_natively_and_drops_who_is_banned_and_nobody_else() {
    on_veth(|veth| {
        let dataplane = attach(&veth.settings());
        assert_eq!((dataplane.mode(), dataplane.adopted()), (AttachedMode::Native, false));
        for [banned, other] in [[PEER, OTHER], [PEER6, OTHER6]] {
            assert!(veth.connects(banned, 25));
            dataplane.ban(source(banned), Duration::MAX, 3).unwrap();
            let before = count(&dataplane, "ban");
            assert!(veth.is_dropped(banned, 25));
            wait_until("its drop is counted", || count(&dataplane, "ban") > before);
            assert!(veth.connects(other, 25));
            assert!(dataplane.unban(source(banned)).unwrap());
            assert!(!dataplane.unban(source(banned)).unwrap());
            assert!(veth.connects(banned, 25));
        }
    });
}

#[test]
fn what_is_pinned_goes_on_dropping_when_the_daemon_is_gone_and_the_next_one_adopts_it() {
    on_veth(|veth| {
        let settings = veth.settings();
        let dataplane = attach(&settings);
        dataplane.ban(source(PEER), Duration::from_secs(3600), 4).unwrap();
        drop(dataplane);
        assert!(veth.is_dropped(PEER, 25));

        let program =
            |ip: String| ip.split("prog/xdp id ").nth(1).map(|id| id[..id.find(' ').unwrap()].to_owned());
        let before = program(ip(&format!("link show {INTERFACE}"))).expect("a program");
        let adopted = attach(&settings);
        assert_eq!((adopted.mode(), adopted.adopted()), (AttachedMode::Native, true));
        let after = program(ip(&format!("link show {INTERFACE}"))).expect("a program");
        assert_ne!(before, after, "the program was not replaced");
        assert!(count(&adopted, "ban") > 0, "counters were lost");
        let bans = adopted.bans().unwrap();
        assert_eq!((bans.len(), bans[0].source, bans[0].cause), (1, source(PEER), 4));
        assert!(bans[0].left <= Duration::from_secs(3600) && bans[0].left > Duration::from_secs(3000));
        assert!(veth.is_dropped(PEER, 25));
        assert!(veth.connects(OTHER, 25));
    });
}

#[test]
fn a_ban_ends_without_a_daemon() {
    on_veth(|veth| {
        let settings = veth.settings();
        let dataplane = attach(&settings);
        dataplane.ban(source(PEER), Duration::from_secs(3600), 0).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        dataplane.ban(source(PEER), Duration::from_secs(2), 0).unwrap();
        drop(dataplane);
        wait_until("the ban is over", || !veth.is_dropped(PEER, 25));
        let looked = Dataplane::open_pinned(&settings).unwrap();
        assert_eq!(looked.bans().unwrap(), []);
        assert!(count(&looked, "ban") > 0);
    });
}

#[test]
fn who_is_never_banned_is_refused_by_name_and_spared_by_the_kernel() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        let dataplane = attach(&settings);
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        dataplane.ban(source(PEER6), Duration::MAX, 0).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        drop(dataplane);

        settings.block = vec!["198.18.0.0/24".parse().unwrap()];
        let never_ban = ["198.18.0.66/31", "2001:2:0:66::/64"].map(|prefix| prefix.parse().unwrap());
        let dataplane = Dataplane::attach(&settings, &[], &never_ban).unwrap();
        for peer in [PEER, PEER6] {
            assert!(veth.connects(peer, 25), "a ban from before drops {peer}");
            let error = dataplane.ban(source(peer), Duration::MAX, 0).unwrap_err().to_string();
            assert!(
                error.contains("never_ban") && error.contains('/') && error.contains("is not banned"),
                "{error}"
            );
        }
        assert!(veth.connects(OTHER, 25), "a block drops a never-ban prefix");
        assert!(count(&dataplane, "never_ban") > 0);
        dataplane.ban(source(OTHER6), Duration::MAX, 0).unwrap();
    });
}

#[test]
fn own_addresses_gateway_and_allow_list_pass_and_cannot_be_banned() {
    on_veth(|veth| {
        ip(&format!("route add default via {OTHER}"));
        let mut settings = veth.settings();
        settings.allow = vec![format!("{PEER}/32").parse().unwrap()];
        settings.block = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let upstream: IpAddr = OTHER6.parse().unwrap();
        let dataplane = Dataplane::attach(&settings, &[upstream], &[]).unwrap();
        let refused = [
            (EDGE, "address of this host"),
            (EDGE6, "address of this host"),
            (OTHER, "default gateway"),
            (OTHER6, "upstream"),
            (PEER, "xdp.allow"),
        ];
        for (who, why) in refused {
            let error = dataplane.ban(source(who), Duration::MAX, 0).unwrap_err();
            assert!(
                matches!(error, DataplaneError::Spared { .. }) && error.to_string().contains(why),
                "{error}"
            );
        }
        for who in [PEER, OTHER, OTHER6] {
            assert!(veth.connects(who, 25), "{who}");
        }
        assert!(veth.is_dropped(PEER6, 25));
        drop(dataplane);

        // What is no longer on the list no longer passes.
        settings.allow.clear();
        let dataplane = Dataplane::attach(&settings, &[], &[]).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        assert!(veth.is_dropped(OTHER6, 25));
        assert!(veth.connects(OTHER, 25));
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
    });
}

#[test]
fn watch_mode_counts_and_passes_and_switches_while_attached() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.watch = true;
        let dataplane = attach(&settings);
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        assert!(veth.connects(PEER, 25));
        assert!(count(&dataplane, "watched_ban") > 0 && count(&dataplane, "ban") == 0);
        dataplane.set_watch(false).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        dataplane.set_watch(true).unwrap();
        assert!(dataplane.watch().unwrap() && veth.connects(PEER, 25));
    });
}

#[test]
fn syns_over_the_budget_get_no_answer() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        (settings.syn_per_sec, settings.syn_burst) = (0, 3);
        let dataplane = attach(&settings);
        for _ in 0..3 {
            assert!(veth.connects(PEER, 25));
        }
        assert!(veth.is_dropped(PEER, 25));
        wait_until("its drop is counted", || count(&dataplane, "syn_budget") > 0);
        assert!(veth.connects(OTHER, 25));
    });
}

#[test]
fn drops_are_sampled_for_the_daemon() {
    on_veth(|veth| {
        let dataplane = attach(&veth.settings());
        let mut samples = dataplane.take_samples().expect("the first to take them");
        assert!(dataplane.take_samples().is_none());
        assert_eq!(samples.take(10), []);
        dataplane.ban(source(PEER6), Duration::MAX, 0).unwrap();
        assert!(veth.is_dropped(PEER6, 25));
        let mut taken = Vec::new();
        wait_until("a drop is sampled", || {
            taken.extend(samples.take(10));
            !taken.is_empty()
        });
        assert!(taken.iter().all(|sample| sample.source == source(PEER6)), "{taken:?}");
        assert!(taken.iter().all(|sample| sample.reason.name() == "ban"), "{taken:?}");
    });
}

/// Counts the program's own messages, of all tests in this process.
struct KernelMessages(AtomicUsize);

impl log::Log for KernelMessages {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("the first judged packet passed") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

static MESSAGES: KernelMessages = KernelMessages(AtomicUsize::new(0));

#[test]
fn whoever_attends_is_handed_each_sample_and_logs_what_the_program_says() {
    on_veth(|veth| {
        log::set_logger(&MESSAGES).expect("no other logger");
        log::set_max_level(log::LevelFilter::Info);
        let dataplane = attach(&veth.settings());
        assert!(veth.connects(OTHER, 25)); // the program tells of its first packet
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let attend = dataplane.attend(|sample| tell.send(sample.source).expect("this test listens"));
            let seen = async {
                while MESSAGES.0.load(Ordering::Relaxed) == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                told.recv().await
            };
            tokio::select! {
                () = attend => panic!("it ended by itself"),
                who = seen => assert_eq!(who, Some(source(PEER))),
                () = tokio::time::sleep(Duration::from_secs(60)) => panic!("no sample, or no message"),
            }
        });
        assert!(dataplane.take_samples().is_none());
    });
}

#[test]
fn a_full_map_is_said_and_bans_that_are_over_make_room() {
    on_veth(|veth| {
        let settings = veth.settings();
        let dataplane = attach(&settings);
        let host = |n: u32| Source::from(IpAddr::from([198, 19, (n >> 8) as u8, n as u8]));
        let long = Duration::from_secs(3600);
        let mut n = 0;
        let full = loop {
            match dataplane.ban(host(n), long, 0) {
                Ok(()) => n += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(n, settings.bans_max);
        assert!(
            matches!(full, DataplaneError::BansFull { max: 64 }) && full.to_string().contains("bans_max")
        );
        dataplane.ban(host(0), Duration::ZERO, 0).unwrap(); // replaces one by one that is over
        dataplane.ban(source(PEER), long, 0).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        dataplane.ban(host(1), Duration::ZERO, 0).unwrap();
        assert_eq!(dataplane.remove_past_bans().unwrap(), 1);
        assert_eq!(dataplane.bans().unwrap().len(), 63);
    });
}

#[test]
fn generic_mode_works_and_is_said() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.mode = XdpMode::Generic;
        let dataplane = attach(&settings);
        assert_eq!(dataplane.mode(), AttachedMode::Generic);
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        assert!(veth.is_dropped(PEER, 25));
        drop(dataplane);
        // Another mode is a new attachment with the old maps.
        settings.mode = XdpMode::Native;
        let dataplane = attach(&settings);
        assert_eq!(dataplane.mode(), AttachedMode::Native);
        assert!(veth.is_dropped(PEER, 25));
    });
}

#[test]
fn without_native_xdp_auto_falls_back_to_generic() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.interface = "lo".into(); // the loopback driver has no native XDP
        let error = Dataplane::attach(&settings, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("`lo`") && error.contains("set xdp.mode to \"auto\""), "{error}");
        assert_eq!(pins(&settings), 0, "a failed start left pins");
        settings.mode = XdpMode::Auto;
        assert_eq!(attach(&settings).mode(), AttachedMode::Generic);
    });
}

#[test]
fn somebody_elses_program_is_left_alone_and_named() {
    on_veth(|veth| {
        let first = veth.settings();
        let mut second = veth.settings();
        let _held = attach(&first);
        second.pin_dir = first.pin_dir.with_file_name("another");
        let error = Dataplane::attach(&second, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("another XDP program") && error.contains(INTERFACE), "{error}");
        assert!(Dataplane::open_pinned(&first).is_ok());
        assert!(!own_pins(&second).exists());
    });
}

#[test]
fn an_interface_that_was_made_anew_is_protected_again_with_the_old_bans() {
    on_veth(|veth| {
        let settings = veth.settings();
        attach(&settings).ban(source("198.18.0.99"), Duration::MAX, 0).unwrap();
        ip(&format!("link delete {INTERFACE}"));
        ip(&format!("link add {INTERFACE} type veth peer name gone-peer"));
        let dataplane = attach(&settings);
        assert!(!dataplane.adopted());
        assert_eq!(dataplane.bans().unwrap().len(), 1);
        assert!(ip(&format!("link show {INTERFACE}")).contains("prog/xdp"));
    });
}

#[test]
fn pins_of_another_abi_version_hand_over_their_link() {
    on_veth(|veth| {
        let settings = veth.settings();
        drop(attach(&settings));
        std::fs::rename(own_pins(&settings), settings.pin_dir.join("abi-0")).unwrap();
        let error = Dataplane::open_pinned(&settings).unwrap_err().to_string();
        assert!(error.contains("ABI 0"), "{error}");
        let dataplane = attach(&settings);
        assert!(dataplane.adopted());
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        drop(dataplane);
        assert!(!settings.pin_dir.join("abi-0").exists());
        assert!(veth.is_dropped(PEER, 25));
        assert!(Dataplane::open_pinned(&settings).is_ok());
    });
}

#[test]
fn an_absent_interface_and_a_wrong_pin_directory_are_said_before_anything_is_done() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.interface = "no-such-if".into();
        let error = Dataplane::attach(&settings, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("`no-such-if`"), "{error}");
        assert_eq!(pins(&settings), 0);
        let mut settings = veth.settings();
        settings.pin_dir = "/run/backstop-no-bpffs".into();
        let error = Dataplane::attach(&settings, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        assert!(!Path::new("/run/backstop-no-bpffs").exists());
        assert!(!ip(&format!("link show {INTERFACE}")).contains("prog/xdp"));
    });
}
