//! What is pinned: who may touch it, and how it goes.

use std::time::Duration;

use edge_user::dataplane::{Dataplane, DataplaneError};

use crate::dataplane::{attach, pins, source};
use crate::veth::{INTERFACE, PEER, ip, on_veth};

#[test]
fn detaching_takes_everything_off_even_twice() {
    on_veth(|veth| {
        let settings = veth.settings();
        let dataplane = attach(&settings);
        dataplane.ban(source(PEER), Duration::MAX, 0).unwrap();
        assert!(pins(&settings) > 10);
        drop(dataplane);
        Dataplane::detach(&settings).unwrap();
        assert_eq!(pins(&settings), 0);
        assert!(!ip(&format!("link show {INTERFACE}")).contains("prog/xdp"));
        assert!(veth.connects(PEER, 25));
        Dataplane::detach(&settings).unwrap();
        let error = Dataplane::open_pinned(&settings).unwrap_err();
        assert!(
            matches!(error, DataplaneError::NotPinned { .. }) && error.to_string().contains("xdp attach")
        );
        let again = attach(&settings);
        assert!(!again.adopted() && again.bans().unwrap().is_empty());
    });
}

#[test]
fn nobody_attaches_or_detaches_while_a_daemon_holds_the_pins() {
    on_veth(|veth| {
        let settings = veth.settings();
        let held = attach(&settings);
        held.ban(source(PEER), Duration::MAX, 0).unwrap();
        let mut other = settings.clone();
        other.watch = true;
        for error in
            [Dataplane::attach(&other, &[], &[]).unwrap_err(), Dataplane::detach(&other).unwrap_err()]
        {
            assert!(
                matches!(error, DataplaneError::Held { .. }) && error.to_string().contains("stop it first"),
                "{error}"
            );
        }
        assert!(!held.watch().unwrap() && held.is_attached());
        assert!(veth.is_dropped(PEER, 25), "who was refused changed something");

        Dataplane::detach_by_force(&settings).unwrap();
        assert!(!held.is_attached(), "the daemon does not see that it is blind");
        drop(held);
        assert!(attach(&settings).is_attached());
    });
}

#[test]
fn pinned_maps_of_another_size_are_listed_with_what_helps() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        attach(&settings).ban(source(PEER), Duration::MAX, 0).unwrap();
        let (bans_max, sources_max) = (settings.bans_max, settings.sources_max);
        (settings.bans_max, settings.sources_max) = (128, 2048);
        let error = Dataplane::attach(&settings, &[], &[]).unwrap_err().to_string();
        for part in
            ["bans_max = 64, wanted is 128", "sources_max = 1024, wanted is 2048", "backstop xdp detach"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(veth.is_dropped(PEER, 25), "a refused start changed something");
        (settings.bans_max, settings.sources_max) = (bans_max, sources_max);
        assert!(attach(&settings).adopted());
    });
}
